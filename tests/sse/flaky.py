"""A bus in front of another one that fails, holds back and changes what a test wants."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from attrs import evolve

from stagecast.domain.bus import (
    Batch,
    BusLimits,
    Capabilities,
    Delivery,
    Liveness,
    MessageBus,
    Opened,
    Opening,
    Published,
    Receipt,
    Subscription,
)
from stagecast.domain.events import Event
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic


class FlakyBus:
    """`stagecast.domain.bus.MessageBus`."""

    def __init__(self, bus: MessageBus) -> None:
        self.failures_left = 0
        self.exits = 0
        self.before_exit: Callable[[], Awaitable[None]] | None = None
        """Called when a subscription is about to be left, once it is there no more."""
        self.change: Callable[[Event], Event] | None = None
        self._bus = bus
        self._error: Exception | None = None
        self._broken: set[asyncio.Event] = set()
        self._free = asyncio.Event()
        self._free.set()

    @property
    def capabilities(self) -> Capabilities:
        return self._bus.capabilities

    @property
    def limits(self) -> BusLimits:
        return self._bus.limits

    def fail(self, error: Exception, times: int) -> None:
        """Break every subscription, and let the next `times` attempts to make one fail."""
        self._error, self.failures_left = error, times
        for broken in self._broken:
            broken.set()

    def hold(self) -> None:
        """Deliver nothing until `let_go`."""
        self._free.clear()

    def let_go(self) -> None:
        self._free.set()

    async def open_run(self, opening: Opening) -> Opened:
        return await self._bus.open_run(opening)

    async def publish(self, batch: Batch) -> Receipt:
        return await self._bus.publish(batch)

    async def cancel(self, topic: Topic, run: str) -> bool:
        return await self._bus.cancel(topic, run)

    @asynccontextmanager
    async def subscribe(self, topic: Topic, after: Position | None = None) -> AsyncIterator[Subscription]:
        if self.failures_left > 0 and self._error is not None:
            self.failures_left -= 1
            raise self._error
        async with self._bus.subscribe(topic, after) as subscription:
            broken = asyncio.Event()
            self._broken.add(broken)
            try:
                yield _Flaky(self, subscription, broken)
            finally:
                self._broken.discard(broken)
        self.exits += 1
        if self.before_exit is not None:
            await self.before_exit()

    async def aclose(self) -> None:
        await self._bus.aclose()

    async def deliver(self, subscription: Subscription, broken: asyncio.Event) -> Delivery:
        next_, failed = asyncio.ensure_future(anext(subscription)), asyncio.ensure_future(broken.wait())
        try:
            await asyncio.wait({next_, failed}, return_when=asyncio.FIRST_COMPLETED)
            if broken.is_set() and self._error is not None:
                raise self._error
            delivery = next_.result()
        finally:
            next_.cancel()
            failed.cancel()
        await self._free.wait()
        if self.change is not None and isinstance(delivery, Published):
            delivery = evolve(delivery, event=self.change(delivery.event))
        return delivery


class _Flaky:
    def __init__(self, bus: FlakyBus, subscription: Subscription, broken: asyncio.Event) -> None:
        self._bus, self._subscription, self._broken = bus, subscription, broken

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        return await self._bus.deliver(self._subscription, self._broken)

    @property
    def liveness(self) -> Liveness:
        return self._subscription.liveness
