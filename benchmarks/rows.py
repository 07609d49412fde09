"""Reading the rows of a run: medians over repetitions, and ratios within one repetition."""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

Rows: TypeAlias = list[dict[str, Any]]


def select(rows: Rows, measure: str, peer: str | None = None, **where: Any) -> Rows:
    """The rows of a measure that went well."""
    return [
        row
        for row in rows
        if row["measure"] == measure
        and "trouble" not in row
        and (peer is None or row["peer"] == peer)
        and all(row.get(name) == value for name, value in where.items())
    ]


def median(rows: Rows, name: str) -> float | None:
    """Of a figure over rows; None where there is none."""
    values = [row[name] for row in rows if row.get(name) is not None]
    return statistics.median(values) if values else None


def ratio(above: Rows, below: Rows, name: str, below_name: str | None = None) -> float | None:
    """The median of the ratios of two figures, each within one repetition; None where no repetition has both."""
    divisors: Mapping[int, float] = {row["repetition"]: row[below_name or name] for row in below}
    found = [row[name] / divisors[row["repetition"]] for row in above if divisors.get(row["repetition"])]
    return statistics.median(found) if found else None


def values(rows: Iterable[dict[str, Any]], name: str) -> list[Any]:
    """The different values of a figure, in order of appearance."""
    return list(dict.fromkeys(row[name] for row in rows if name in row))
