"""A bus that keeps nothing: who is there is told, and that is all. Not collected by itself."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest
from attrs import Factory, define

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
    Snapshot,
)
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic
from stagecast.entrypoints.testing.actors import CODEC
from stagecast.entrypoints.testing.contract import Backend, TransportContract
from stagecast.entrypoints.testing.contract_live import LiveContract


class LiveSubscription:
    """What is delivered waits in a queue until it is read."""

    liveness = Liveness()

    def __init__(self, topic: Topic, first: Snapshot) -> None:
        self.topic = topic
        self.queue = asyncio.Queue[Delivery | None]()
        self.queue.put_nowait(first)

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        if (delivery := await self.queue.get()) is None:
            self.queue.put_nowait(None)
            raise StopAsyncIteration
        return delivery


@define
class Room:
    """Who is there."""

    present: list[LiveSubscription] = Factory(list)
    numbers: "count[int]" = Factory(count)


class LiveBus:
    """`stagecast.domain.bus.MessageBus` without a log."""

    capabilities = Capabilities(resume=False, processes=False)

    def __init__(self, room: Room, limits: BusLimits) -> None:
        self.limits = limits
        self._room = room
        self._mine = list[LiveSubscription]()
        self._closed = False

    async def open_run(self, opening: Opening) -> Opened:
        self._check()
        return Opened(run=opening.run, attempt=1, position=None)

    async def publish(self, batch: Batch) -> Receipt:
        self._check()
        for event in [CODEC.decode(CODEC.encode(event)) for event in batch.events]:
            published = Published(position=Position(1, next(self._room.numbers)), event=event)
            for subscription in self._room.present:
                if subscription.topic.project == batch.topic.project and subscription.topic.covers(event.stage):
                    subscription.queue.put_nowait(published)
        return Receipt(applied=len(batch.events), position=None, run=batch.run or batch.new_run)

    async def cancel(self, topic: Topic, run: str) -> bool:
        self._check()
        return False

    @asynccontextmanager
    async def subscribe(self, topic: Topic, after: Position | None = None) -> AsyncIterator[LiveSubscription]:
        self._check()
        first = Snapshot(position=None, stages={}, reset="epoch" if after else None, time=time.time())
        subscription = LiveSubscription(topic, first)
        self._room.present.append(subscription)
        self._mine.append(subscription)
        try:
            yield subscription
        finally:
            self._room.present.remove(subscription)
            self._mine.remove(subscription)

    async def aclose(self) -> None:
        self._closed = True
        for subscription in self._mine:
            subscription.queue.put_nowait(None)

    def _check(self) -> None:
        if self._closed:
            raise BusUnavailable("the bus is closed")


class LiveBackend:
    """Handles on one room."""

    def __init__(self, bus: type[LiveBus] = LiveBus) -> None:
        self._bus, self._room = bus, Room()

    async def open(self, limits: BusLimits) -> MessageBus:
        return self._bus(self._room, limits)

    async def close(self, bus: MessageBus) -> None:
        await bus.aclose()

    async def lose_everything(self) -> None:
        raise AssertionError("there is nothing to lose")

    async def connections(self) -> int:
        return 0


class TestLiveBus(TransportContract):
    name = "live"
    capabilities = Capabilities(resume=False, processes=False)

    @pytest.fixture
    def backend(self) -> Backend:
        return LiveBackend()


class Boasting(LiveBus):
    """Says that it keeps a log."""

    capabilities = Capabilities(processes=False)


class TestBoasting(LiveContract):
    capabilities = Capabilities(processes=False)

    @pytest.fixture
    def backend(self) -> Backend:
        return LiveBackend(Boasting)
