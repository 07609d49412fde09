"""Markdown tables."""

from collections.abc import Iterable, Sequence


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column to the left, what looks like numbers to the right."""
    lines = [list(row) for row in rows]
    numeric = [n > 0 and all(_is_numeric(row[n]) for row in lines) for n in range(len(headers))]
    rule = ["--:" if one else "---" for one in numeric]
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(headers), rule, *lines])


def _is_numeric(cell: str) -> bool:
    return not cell or cell[0].isdigit() or cell[0] in "-—"
