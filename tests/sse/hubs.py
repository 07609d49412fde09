"""Hubs in the test's own event loop, and viewers who sit down at them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stagecast.domain.bus import MessageBus
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import EdgeSettings
from stagecast.entrypoints.sse.hub import Hub
from stagecast.entrypoints.sse.viewer import (
    ViewRequest,
)
from tests.sse.seat import Seat

STAGE = Topic("p", "s")
PROJECT = Topic("p")
QUICK = EdgeSettings(heartbeat=0.05, linger=0.05)


class Clock:
    """A wall clock that a test sets."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def hub_on(
    bus: MessageBus, settings: EdgeSettings | None = None, clock: Clock | None = None
) -> AsyncIterator[Hub]:
    hub = Hub(bus, settings or EdgeSettings(), clock=clock or Clock())
    try:
        yield hub
    finally:
        await hub.aclose()


async def sit(hub: Hub, topic: Topic = STAGE, **wishes: object) -> Seat:
    return Seat(await hub.join(ViewRequest(topic=topic, **wishes)))  # type: ignore[arg-type]
