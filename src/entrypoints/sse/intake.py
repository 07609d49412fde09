"""The one subscription of a project in this process, made again as often as it breaks. Knows no viewer."""

import asyncio
import logging
from collections.abc import Callable
from typing import TypeAlias

from stagecast.domain import backoff
from stagecast.domain.bus import Delivery, MessageBus, Subscription
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic

logger = logging.getLogger("stagecast.sse")

LONGEST_PAUSE = 2.0
"""Seconds, at the most, between two attempts to subscribe."""
STEADY = 5.0
"""Seconds that a subscription must have stood for its end to count as a new failure, worth another line in the log."""
BREATH = 256
"""Deliveries after which viewers get their turn, where the bus has so many at hand."""

Take: TypeAlias = Callable[[Delivery], None]


class Intake:
    """Follows a project. It keeps nothing of who is served, whose texts must be freed as soon as it ends."""

    def __init__(self, bus: MessageBus, project: str) -> None:
        self.standing = asyncio.Event()
        """Set while whatever is published will be delivered, and the first snapshot is taken."""
        self._bus, self._topic = bus, Topic(project)
        self._subscription: Subscription | None = None
        self._stands_since: float | None = None
        self._failures = 0

    @property
    def active(self) -> frozenset[str]:
        """The stages that have a producer with a lease, or a run that waits for its start."""
        return self._subscription.liveness.active if self._subscription else frozenset()

    async def run(self, take: Take, position: Callable[[], Position | None]) -> None:
        """Hand every delivery to `take`, from after `position()` on when it has to begin again. Until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            self._stands_since = None
            try:
                await self._follow(take, position)
                reason: Exception = BusUnavailable("the bus has ended the subscription")
            except Exception as error:  # whatever it is, viewers stay connected and the subscription is made again
                reason = error
            finally:
                self.standing.clear()
                self._subscription = None
            if self._stands_since is not None and clock() - self._stands_since > STEADY:
                self._failures = 0
            if self._failures == 0:
                trace = None if isinstance(reason, BusUnavailable) else reason
                logger.warning(
                    "%s: the subscription failed and is made again: %s", self._topic.project, reason, exc_info=trace
                )
            self._failures += 1
            await asyncio.sleep(backoff.pause(self._failures, LONGEST_PAUSE))

    async def _follow(self, take: Take, position: Callable[[], Position | None]) -> None:
        async with self._bus.subscribe(self._topic, after=position()) as subscription:
            self._subscription = subscription
            if self._failures:
                logger.info("%s: the subscription stands again", self._topic.project)
            self._stands_since = asyncio.get_running_loop().time()
            if position() is not None:
                self.standing.set()
            taken = 0
            async for delivery in subscription:
                take(delivery)
                self.standing.set()
                taken += 1
                if taken % BREATH == 0:
                    await asyncio.sleep(0)
