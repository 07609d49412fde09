"""A clock that stands until a test advances it."""

import time
from collections.abc import Callable

STEP = 1.0
"""Seconds that pass at once: who watches leases judges nobody across a longer gap."""
_TICK = 2
"""Microseconds that each look takes: no two moments are the same."""


class VirtualClock:
    """Wall clock and monotonic clock of a `MemoryBus`. What happens by itself as time passes happens in `advance`."""

    def __init__(self, now: float | None = None) -> None:
        self._now = int((time.time() if now is None else now) * 1_000_000)
        self._watchers = list[Callable[[], None]]()

    def time(self) -> float:
        """Seconds since the epoch."""
        self._now += _TICK
        return self._now / 1_000_000

    monotonic = time

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, a second at a time, so that leases lapse and lives end as they would.

        Nobody else's time passes: a publisher that is alive has not renewed its lease meanwhile, and counts as dead.
        """
        left = seconds
        while left > 0:
            step = min(STEP, left)
            self._now += int(step * 1_000_000)
            left -= step
            for look in self._watchers:
                look()

    def watched_by(self, look: Callable[[], None]) -> None:
        """Call `look` after each step."""
        self._watchers.append(look)
