"""What the figures must show. A ratio is judged within one run, so that a slow machine changes nothing."""

from collections.abc import Callable
from typing import TypeAlias

from attrs import frozen

from .plots import number
from .rows import Rows, median, ratio, select

Value: TypeAlias = Callable[[Rows], float | None]


@frozen
class Bound:
    """One line of what must be shown."""

    text: str
    value: Value
    least: float | None = None
    most: float | None = None
    is_judged: bool = True
    """False for what the guard leaves out: figures that a slower or loaded machine changes."""

    def holds(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def limit(self) -> str:
        return f"at least {number(self.least)}" if self.least is not None else f"at most {number(self.most or 0)}"


def _against(measure: str, name: str, peer: str) -> Value:
    return lambda rows: ratio(select(rows, measure, "stagecast"), select(rows, measure, peer), name)


def _own(measure: str, name: str, scale: float = 1.0, **where: object) -> Value:
    def value(rows: Rows) -> float | None:
        found = median(select(rows, measure, "stagecast", **where), name)
        return None if found is None else found * scale

    return value


def _worst(measure: str, name: str) -> Value:
    return lambda rows: max((row[name] for row in select(rows, measure, "stagecast") if name in row), default=None)


def _late(characters: Callable[[list[int]], int]) -> Value:
    """Of the stage with the most tokens to one with the fewest: which of them, by the size of its tokens."""

    def value(rows: Rows) -> float | None:
        found = select(rows, "late", "stagecast")
        most, fewest = (pick((row["tokens"] for row in found), default=0) for pick in (max, min))
        few = [row for row in found if row["tokens"] == fewest]
        if most == fewest:
            return None
        size = characters([row["characters"] for row in few])
        many = [row for row in found if row["tokens"] == most]
        return ratio(many, [row for row in few if row["characters"] == size], "ms")

    return value


def _late_largest(name: str) -> Value:
    def value(rows: Rows) -> float | None:
        found = select(rows, "late", "stagecast")
        largest = max((row["tokens"] for row in found), default=0)
        return median([row for row in found if row["tokens"] == largest], name)

    return value


def _bytes(pace: str) -> Value:
    def value(rows: Rows) -> float | None:
        seed = select(rows, "bytes", "seed", pace="paced")
        own = select(rows, "bytes", "stagecast", pace=pace)
        return ratio(seed, own, "redis_input")

    return value


def _publish(way: str) -> Value:
    def value(rows: Rows) -> float | None:
        found = select(rows, "throughput")
        return ratio(found, found, way, "plain")

    return value


def _stalled(rows: Rows) -> float | None:
    found = select(rows, "stalled", "stagecast")
    return ratio(found, found, "p99_with", "p99_without")


def _lost(rows: Rows) -> float | None:
    found = [row for one in ("fan_out", "burst", "crowd", "stalled") for row in select(rows, one, "stagecast")]
    return sum(row["lost"] for row in found) if found else None


BOUNDS = (
    Bound(
        "Deliveries per CPU-second, times those of the seed's design",
        _against("fan_out", "per_cpu_second", "seed"),
        3.5,
    ),
    Bound(
        "Deliveries per CPU-second, times those of the bare server", _against("fan_out", "per_cpu_second", "bare"), 0.5
    ),
    Bound(
        "Memory of an idle connection, times that of the seed's design",
        _against("idle", "bytes", "seed"),
        most=1 / 6,
    ),
    Bound("Redis connections of a server process", _worst("fan_out", "redis_connections"), most=3),
    Bound("Tokens that a viewer did not get", _lost, most=0),
    Bound("Late viewer of the longest stage: messages", _late_largest("messages"), most=1),
    Bound(
        "Late viewer: time with the most tokens, times that with a hundredth of them and the same text",
        _late(max),
        most=3,
    ),
    Bound("Late viewer: the same with a hundredth of the text too", _late(min), most=3, is_judged=False),
    Bound("Bytes that Redis receives for a stage: the seed's design's, times stagecast's (burst)", _bytes("burst"), 40),
    Bound(
        "The same, one token at a time",
        _bytes("paced"),
        40,
        is_judged=False,
    ),
    Bound("Publishing with log, snapshot and channel one by one, times plain PUBLISH", _publish("one_by_one"), 0.8),
    Bound("The same in batches, times plain PUBLISH one by one", _publish("batched"), 10),
    Bound("p99 of the others with a stalled viewer, times that without", _stalled, most=1.2),
    Bound("Late viewer of the longest stage: milliseconds", _late_largest("ms"), most=20, is_judged=False),
    Bound("publish_token in a burst: µs in the caller", _own("calls", "us", kind="burst"), most=5, is_judged=False),
    Bound("publish_token when paced: µs in the caller", _own("calls", "us", kind="paced"), most=50, is_judged=False),
    Bound(
        "publish_token in a burst, Redis stopped: µs",
        _own("calls", "us", kind="burst, Redis stopped"),
        most=5,
        is_judged=False,
    ),
    Bound(
        "publish_token when paced, Redis stopped: µs",
        _own("calls", "us", kind="paced, Redis stopped"),
        most=50,
        is_judged=False,
    ),
    Bound(
        "Tokens a second from one process into Redis",
        _own("calls", "per_second", kind="sustained"),
        100_000,
        is_judged=False,
    ),
    Bound("The great crowd: p99 in ms", _own("crowd", "p99"), most=250, is_judged=False),
    Bound("The great crowd: KB a connection", _own("crowd", "active_bytes", 1 / 1024), most=15, is_judged=False),
)
