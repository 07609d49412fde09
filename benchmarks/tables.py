"""The tables of the page, from the rows of a run; and where a peer is ahead of stagecast."""

from collections.abc import Callable
from typing import Any, TypeAlias

from attrs import frozen

from .delivering import BUSY
from .markdown import table
from .peers.table import PEERS
from .plots import number
from .rows import Rows, median, select, values

KB = 1024
Body: TypeAlias = Callable[[Rows], str]
"""The Markdown of a section's figures; empty where there are none."""


@frozen
class Column:
    """A figure of a table."""

    title: str
    name: str
    scale: float = 1.0
    better: int = 0
    """1 where more is better, -1 where less is, 0 where neither."""


def peers_table(measure: str, columns: list[Column], **where: Any) -> Body:
    """One row a peer, medians; and who is ahead of stagecast in which column."""

    def body(rows: Rows) -> str:
        found: dict[str, list[float | None]] = {}
        lines = []
        for key in values(select(rows, measure, **where), "peer"):
            of_peer = select(rows, measure, key, **where)
            figures = [_scaled(median(of_peer, column.name), column.scale) for column in columns]
            found[key] = figures
            busy = " (busy)" if any(row.get("load_share", 0) > BUSY for row in of_peer) else ""
            lines.append([PEERS[key].title + busy, *(_shown(one) for one in figures)])
        if not lines:
            return ""
        return table(["", *(one.title for one in columns)], lines) + _ahead(found, columns)

    return body


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _shown(value: float | None) -> str:
    return "—" if value is None else number(value)


def _ahead(found: dict[str, list[float | None]], columns: list[Column]) -> str:
    """Say plainly where a peer is better."""
    own = found.get("stagecast")
    if own is None or all(PEERS[key].is_own for key in found):
        return ""
    said = []
    for n, column in enumerate(columns):
        mine = own[n]
        if not column.better or mine is None:
            continue
        names = [
            PEERS[key].title
            for key, figures in found.items()
            if not PEERS[key].is_own and (other := figures[n]) is not None and (other - mine) * column.better > 0
        ]
        if names:
            said.append(f"{column.title}: {', '.join(names)}")
    return (
        f"\n\nBetter than stagecast here: {'; '.join(said)}." if said else "\n\nNobody is better than stagecast here."
    )


def curve_table(measure: str, x: str, columns: list[Column]) -> Body:
    """One row a point and peer, medians; and where a peer takes less processor time than stagecast."""

    def body(rows: Rows) -> str:
        found = select(rows, measure)
        lines = []
        cheaper: dict[str, list[str]] = {}
        for value in values(found, x):
            own = median(select(found, measure, "stagecast", **{x: value}), "cpu_us")
            for key in values(found, "peer"):
                some = select(found, measure, key, **{x: value})
                if not some:
                    continue
                busy = " (busy)" if any(row.get("load_share", 0) > BUSY for row in some) else ""
                figures = [_shown(_scaled(median(some, one.name), one.scale)) for one in columns]
                lines.append([f"{value:,}", PEERS[key].title + busy, *figures])
                cost = median(some, "cpu_us")
                if not PEERS[key].is_own and own is not None and cost is not None and cost < own:
                    cheaper.setdefault(PEERS[key].title, []).append(f"{value:,}")
        if not lines:
            return ""
        said = "; ".join(f"{title} (at {', '.join(at)})" for title, at in cheaper.items())
        more = f"\n\nLess processor time than stagecast: {said}." if said else ""
        return table([x, "", *(one.title for one in columns)], lines) + more

    return body


def late_table(rows: Rows) -> str:
    lines = []
    found = select(rows, "late")
    for key in values(found, "peer"):
        of_peer = [row for row in found if row["peer"] == key]
        for tokens, size in dict.fromkeys((row["tokens"], row["characters"]) for row in of_peer):
            some = [row for row in of_peer if (row["tokens"], row["characters"]) == (tokens, size)]
            whole = all(row["is_whole"] for row in some)
            figures = [_shown(median(some, name)) for name in ("messages", "ms", "first_ms")]
            lines.append(
                [PEERS[key].title, f"{tokens:,}", f"{size}", *(figures if whole else ["never", "never", "never"])]
            )
    return table(["", "tokens", "characters each", "messages", "ms", "ms, the first viewer"], lines) if lines else ""


def bytes_table(rows: Rows) -> str:
    lines = []
    found = select(rows, "bytes")
    for key in values(found, "peer"):
        for pace in values([row for row in found if row["peer"] == key], "pace"):
            some = [row for row in found if row["peer"] == key and row["pace"] == pace]
            figures = [
                _shown(_scaled(median(some, one), 1 / KB)) for one in ("redis_input", "redis_output", "wire_bytes")
            ]
            whole = "" if all(row["is_whole"] for row in some) else " (incomplete)"
            lines.append([PEERS[key].title + whole, pace, *figures])
    if not lines:
        return ""
    kept = median(select(rows, "kept"), "bytes")
    more = (
        "" if kept is None else f"\n\nA token that Redis keeps takes {kept:.0f} bytes of its memory, its text included."
    )
    return table(["", "pace", "KB to Redis", "KB from Redis", "KB to the viewer"], lines) + more


def calls_table(rows: Rows) -> str:
    lines = []
    found = select(rows, "calls")
    for kind in values(found, "kind"):
        for key in values(found, "peer"):
            some = [row for row in found if row["peer"] == key and row["kind"] == kind]
            if some:
                figures = [_shown(median(some, one)) for one in ("us", "p99_us", "per_second", "cpu_us")]
                lines.append([kind, PEERS[key].title, *figures])
    return table(["", "", "µs in the caller", "p99", "tokens a second", "CPU µs a token"], lines) if lines else ""


def throughput_table(rows: Rows) -> str:
    found = select(rows, "throughput")
    ways = {
        "plain": "PUBLISH one by one, redis-py on asyncio (what stagecast is compared with)",
        "plain_sync": "PUBLISH one by one, redis-py without asyncio",
        "redis_benchmark": "PUBLISH one by one, redis-benchmark",
        "one_by_one": "stagecast: log, snapshot and channel, one by one",
        "batched": "stagecast: log, snapshot and channel, in batches",
    }
    plain = median(found, "plain")
    if not plain:
        return ""
    lines = []
    for name, title in ways.items():
        value = median(found, name)
        lines.append([title, _shown(value), "" if value is None else f"{value / plain:.2f}"])
    return table(["", "events a second", "times plain PUBLISH"], lines)
