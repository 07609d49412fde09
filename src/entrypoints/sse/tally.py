"""What was refused, counted, and how much of it the log is told. Knows no request: a flood must cost no disk."""

import asyncio
import logging
import time
from collections import Counter

from attrs import Factory, define

logger = logging.getLogger("stagecast.sse")

LINES = 20
"""Refusals of one kind that the log is told of in a period, one by one; the others in one line with their number."""
PERIOD = 60.0
"""Seconds."""


@define(eq=False)
class _Period:
    until: float
    refusals: int = 0


@define(eq=False)
class Tally:
    """The refusals of one application. `note` is called in a running event loop."""

    lines: int = LINES
    period: float = PERIOD
    counts: Counter[tuple[int, str]] = Factory(Counter)
    """By status and reason, since the start. They are few: no reason has anything of a request."""
    _periods: dict[tuple[int, str], _Period] = Factory(dict)

    def note(self, status: int, reason: str, line: str) -> None:
        """Count a refusal, and write `line` to the log unless there were too many of its kind."""
        kind, now = (status, reason), time.monotonic()
        self.counts[kind] += 1
        period = self._periods.get(kind)
        if period is None or now >= period.until:  # the timer's event loop may have ended before the period
            self._end(kind, period)
            period = self._periods[kind] = _Period(now + self.period)
            asyncio.get_running_loop().call_later(self.period, self._end, kind, period)
        period.refusals += 1
        if period.refusals <= self.lines:
            logger.info("%s", line)

    def _end(self, kind: tuple[int, str], period: _Period | None) -> None:
        if period is None or self._periods.get(kind) is not period:
            return
        del self._periods[kind]
        if (more := period.refusals - self.lines) > 0:
            logger.info("%d more requests were refused (%d, %s) in the last %g s", more, *kind, self.period)
