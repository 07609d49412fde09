"""A publisher on a bus that can be away and can lose answers, for the tests of publishing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from stagecast.adapters.codec import JsonCodec
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import Batch, BusLimits, Capabilities, Opened, Opening, Receipt, Subscription
from stagecast.domain.errors import (
    BusUnavailable,
)
from stagecast.domain.positions import Position
from stagecast.domain.publishing import StagePublisher
from stagecast.domain.state import StageState
from stagecast.domain.topics import Topic

CODEC = JsonCodec()
TOPIC = Topic("123", "rewrite")
LIMITS = BusLimits(event_bytes=10_000)


class FlakyBus:
    """A bus over a network that can be away, and can lose answers after the request got through."""

    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        self.is_away = False
        self.answers_to_lose = 0
        self.batches: list[Batch] = []
        self.calls = 0
        self.after_foreign_text: Callable[[], Awaitable[None]] | None = None

    @property
    def capabilities(self) -> Capabilities:
        return self.bus.capabilities

    @property
    def limits(self) -> BusLimits:
        return self.bus.limits

    async def publish(self, batch: Batch) -> Receipt:
        self._reach()
        receipt = await self.bus.publish(batch)
        if receipt.foreign_text and self.after_foreign_text is not None:
            action, self.after_foreign_text = self.after_foreign_text, None
            await action()
        self._answer()
        self.batches.append(batch)
        return receipt

    async def open_run(self, opening: Opening) -> Opened:
        self._reach()
        opened = await self.bus.open_run(opening)
        self._answer()
        return opened

    async def cancel(self, topic: Topic, run: str) -> bool:
        self._reach()
        return await self.bus.cancel(topic, run)

    def subscribe(self, topic: Topic, after: Position | None = None) -> AbstractAsyncContextManager[Subscription]:
        self._reach()
        return self.bus.subscribe(topic, after)

    async def aclose(self) -> None:
        await self.bus.aclose()

    def _reach(self) -> None:
        self.calls += 1
        if self.is_away:
            raise BusUnavailable("away")

    def _answer(self) -> None:
        if self.answers_to_lose:
            self.answers_to_lose -= 1
            raise BusUnavailable("the answer was lost")


@pytest.fixture
def bus() -> FlakyBus:
    return FlakyBus(MemoryBus(CODEC, LIMITS))


@asynccontextmanager
async def publishing(bus: FlakyBus, **options: Any) -> AsyncIterator[StagePublisher]:
    """A publisher whose deliveries go on in the background; closed at the end of the block."""
    publisher = StagePublisher(bus, TOPIC, CODEC, **options)
    delivering = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        publisher.close()
        await asyncio.wait_for(delivering, 10)


async def stage(bus: FlakyBus) -> StageState:
    async with bus.bus.subscribe(TOPIC) as subscription:
        snapshot = await anext(subscription)
    stages: dict[str, StageState] = dict(snapshot.stages)  # type: ignore[union-attr]
    return stages.get("rewrite") or StageState(project="123", stage="rewrite")


def idle(bus: FlakyBus, **options: Any) -> StagePublisher:
    """A publisher that accepts and does not deliver."""
    return StagePublisher(bus, TOPIC, CODEC, **options)
