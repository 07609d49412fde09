"""The soak's table, as text."""

from collections.abc import Mapping, Sequence

from attrs import Factory, define

from .checker import Verdict
from .watching import MEGABYTE, Memory

Row = Sequence[object]


@define
class Report:
    """All that a soak has found."""

    seed: int
    seconds: float
    faults: Mapping[str, int]
    verdict: Verdict
    memory: Memory
    resources: Sequence[Row] = Factory(list)
    """What, before, after."""
    complaints: list[str] = Factory(list)
    """Everything else that is wrong."""
    load: float = 0.0
    """Processor time of all processes a second."""

    @property
    def is_good(self) -> bool:
        return not self.verdict.violations and not self.complaints

    def __str__(self) -> str:
        verdict = self.verdict
        zeros = [
            ("lost", verdict.count("lost", "unknown")),
            ("duplicated", verdict.count("duplicated")),
            ("out of order", verdict.count("out of order", "falling id")),
            ("two texts mixed", verdict.count("mixed")),
            ("left waiting", verdict.count("no end", "refused")),
        ]
        megabytes = [
            (name, f"{first / MEGABYTE:.1f}", f"{last / MEGABYTE:.1f}")
            for name, (first, last) in self.memory.thirds().items()
        ]
        seen = [("runs", verdict.texts), ("tokens", verdict.tokens), ("viewers", verdict.sessions.total())]
        return "\n".join(
            [
                f"Soak of {self.seconds:.0f} s, seed {self.seed}, {self.load:.2f} processors busy",
                *_table("injected fault", self.faults.items()),
                *_table("took part", [*seen, ("messages to viewers", verdict.shown)]),
                *_table("ends of viewers", sorted(verdict.sessions.items())),
                *_table("ends of runs, as viewers saw them", sorted(verdict.ends.items())),
                *_table("differs for a reason", sorted(verdict.excused.items())),
                *_table("memory, MB: first third, last third", megabytes),
                *_table("left behind: before, after", self.resources),
                *_table("violations", zeros),
                *(f"  ! {one.fault}: {one.session} {one.key}: {one.detail}" for one in verdict.violations[:50]),
                *(f"  ! {one}" for one in self.complaints),
                "good" if self.is_good else "NOT GOOD",
            ]
        )


def _table(title: str, rows: object) -> list[str]:
    lines = ["", title]
    for name, *values in rows:  # type: ignore[attr-defined]
        lines.append(f"  {name:<70}" + "".join(f"{value:>10}" for value in values))
    return lines
