"""Who watches leases, and when one has lapsed. Knows no clock but the monotonic one of its own process."""

import logging
from collections.abc import Mapping
from typing import TypeAlias

from attrs import Factory, define

logger = logging.getLogger("stagecast.leases")

RunKey: TypeAlias = tuple[str, str, str]


def report_lapse(key: RunKey, beats: Mapping[str, object]) -> None:
    """Say in the log that this process has ended the run `key`; without `beats` it waited for its start."""
    project, stage, run = key
    reason = "its lease was not renewed" if beats else "nobody began it before its deadline"
    logger.warning("%s/%s: run %s is ended: %s", project, stage, run, reason)


@define
class _Watched:
    beats: dict[str, int]
    since: float


@define
class LeaseWatch:
    """What one process has seen of the leases of runs; judges none that it has not watched uninterrupted.

    A lease has lapsed when it stood unrenewed for a whole lease time under this watch. An outage of the bus, a paused
    process or a late look begins the watch anew: a producer never loses its run to somebody else's interruption.
    """

    lease: float
    """Seconds (`BusLimits.lease`)."""
    _runs: dict[RunKey, _Watched] = Factory(dict)
    _looked: float = float("-inf")

    def begin(self, now: float) -> None:
        """Start a look at leases, all or the next of them, at monotonic time `now` in seconds."""
        if now - self._looked > self.lease / 2:
            self.interrupt()
        self._looked = now

    def interrupt(self) -> None:
        """Forget what was watched: the bus was away, or another life of the log has begun."""
        self._runs.clear()

    def lapsed(self, key: RunKey, beats: dict[str, int]) -> bool:
        """Whether all leases of the run `key` (project, stage, run) have lapsed; `beats` is producer -> beat now."""
        watched = self._runs.get(key)
        if watched is None or watched.beats != beats:
            self._runs[key] = _Watched(dict(beats), self._looked)
            return False
        return self._looked - watched.since >= self.lease

    def keep(self, keys: set[RunKey]) -> None:
        """Forget the runs that are not among `keys`, once all were looked at."""
        for key in self._runs.keys() - keys:
            del self._runs[key]
