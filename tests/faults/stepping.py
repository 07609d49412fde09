"""Buses in memory at which every call takes its time, for the tests of interleavings: any network may do that.

`SteppingBus` is a bus as it stands. `FedBus` runs the Redis adapter's subscriptions, which join a log and a
feed, on the memory bus's log and a feed that may come late and lose news.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stagecast.adapters.memory import MemoryBus
from stagecast.adapters.transport.store import Entry
from stagecast.adapters.transport.subscription import LogSubscription
from stagecast.domain.bus import (
    Batch,
    BusLimits,
    Capabilities,
    Delivery,
    Liveness,
    MessageBus,
    Opened,
    Opening,
    Receipt,
    Snapshot,
    Subscription,
)
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic
from stagecast.entrypoints.testing.actors import CODEC
from tests.faults.interleaving import step

LOOK = 2.0
"""Seconds between two comparisons of the log's end with what the feed has brought."""


class SteppingBus:
    """`stagecast.domain.bus.MessageBus`: another bus, with a step on the way there and one on the way back."""

    def __init__(self, bus: MessageBus) -> None:
        self.inner = bus

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    @property
    def limits(self) -> BusLimits:
        return self.inner.limits

    async def open_run(self, opening: Opening) -> Opened:
        await step()
        opened = await self.inner.open_run(opening)
        await step()
        return opened

    async def publish(self, batch: Batch) -> Receipt:
        await step()
        receipt = await self.inner.publish(batch)
        await step()
        return receipt

    async def cancel(self, topic: Topic, run: str) -> bool:
        await step()
        return await self.inner.cancel(topic, run)

    @asynccontextmanager
    async def subscribe(self, topic: Topic, after: Position | None = None) -> AsyncIterator[Subscription]:
        await step()
        async with self.inner.subscribe(topic, after) as subscription:
            await step()
            yield _Stepping(subscription)
        await step()

    async def aclose(self) -> None:
        await self.inner.aclose()


class _Stepping:
    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        await step()  # before, not after: a wait that is cancelled must lose nothing
        return await anext(self._subscription)

    @property
    def liveness(self) -> Liveness:
        return self._subscription.liveness


class FedBus(SteppingBus):
    """The Redis adapter's subscriptions. Of the feed's news every `losing`-th is lost, none where that is 0."""

    def __init__(self, bus: MemoryBus, losing: int = 0) -> None:
        super().__init__(bus)
        self.memory = bus
        self._losing = losing
        self._sent = 0
        self._members: dict[LogSubscription, None] = {}
        self._news: deque[tuple[Position, str, list[bytes]]] = deque()
        self._has_news = asyncio.Event()
        self._tasks = [asyncio.create_task(work) for work in (self._feed(), self._look_out())]

    async def open_run(self, opening: Opening) -> Opened:
        await step()
        end = self._end()
        opened = await self.memory.open_run(opening)
        self._announce(end)
        await step()
        return opened

    async def publish(self, batch: Batch) -> Receipt:
        await step()
        end = self._end()
        receipt = await self.memory.publish(batch)
        self._announce(end)
        await step()
        return receipt

    @asynccontextmanager
    async def subscribe(self, topic: Topic, after: Position | None = None) -> AsyncIterator[LogSubscription]:
        subscription = LogSubscription(topic, self, CODEC.decode)
        await step()
        self._members[subscription] = None
        subscription.suspect()
        try:
            await step()
            await subscription.start(after)
            yield subscription
        finally:
            subscription.close()
            del self._members[subscription]

    async def page(self, project: str, after: Position | None, count: int) -> tuple[list[Entry], Position | None]:
        await step()
        found = [entry for entry in self._entries() if after is None or entry[0] > after][:count]
        end = self._end()
        await step()
        return found, end

    async def snapshot(self, topic: Topic, *, texts: bool = True) -> Snapshot:
        await step()
        async with self.memory.subscribe(topic) as subscription:
            snapshot = await anext(subscription)
        assert isinstance(snapshot, Snapshot)
        await step()
        return snapshot

    def live_stages(self, project: str) -> frozenset[str]:
        return self.memory.liveness(Topic(project)).active

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await super().aclose()

    def _entries(self) -> list[Entry]:
        return [entry for ledger in self.memory._projects.values() for entry in ledger.entries]

    def _end(self) -> Position | None:
        ledgers = list(self.memory._projects.values())
        return ledgers[0].end if ledgers else None

    def _announce(self, end: Position | None) -> None:
        """Send what came after `end`, one call's events, as the script does."""
        new = [entry for entry in self._entries() if end is None or entry[0] > end]
        if new:
            self._news.append((new[0][0], new[0][1], [line for _, _, line in new]))
            self._has_news.set()

    async def _feed(self) -> None:
        while True:
            while self._news:
                self._sent += 1
                news = self._news.popleft()
                for member in self._members:
                    if not self._losing or self._sent % self._losing:
                        member.offer(*news)
                await step()
            self._has_news.clear()
            await self._has_news.wait()

    async def _look_out(self) -> None:
        while True:
            end = self._end()
            await step()  # the answer may be old when it comes
            for member in list(self._members):
                member.compare(end)
            await asyncio.sleep(LOOK)
