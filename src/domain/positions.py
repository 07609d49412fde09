"""Where an event stands in its project's log."""

import re
from typing import NamedTuple, Self

from .errors import InvalidPosition

_SYNTAX = re.compile(r"(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,18})")
_LIMIT = 2**63


class Position(NamedTuple):
    """A point in one project's log: `epoch` is one life of the log, `n` counts its events from 0 without a hole.

    Positions of one project are totally ordered. Same epoch means same life: nothing between two positions of one
    epoch was lost. Viewers get the text form (the SSE `id`) and must treat it as opaque.
    """

    epoch: int
    n: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.n}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The position that `str()` wrote. Raises InvalidPosition on anything else."""
        match = _SYNTAX.fullmatch(text)
        if match is None or (epoch := int(match[1])) >= _LIMIT or (n := int(match[2])) >= _LIMIT:
            raise InvalidPosition(f"not a position: {text[:64]!r}")
        return cls(epoch, n)

    def follows(self, other: Self) -> bool:
        """Whether this is the very next position after `other`."""
        return self.epoch == other.epoch and self.n == other.n + 1
