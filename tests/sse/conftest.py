"""Fixtures of the SSE tests: one server on the memory bus for those that need no other, a project for each test."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.sse.hub import Hub
from stagecast.entrypoints.testing.actors import Producer
from stagecast.entrypoints.wiring import CODEC
from tests.sse.hubs import STAGE, Clock, hub_on
from tests.sse.serving import Served, served


@pytest.fixture(scope="session")
def shared_bus() -> MemoryBus:
    return MemoryBus(CODEC, BusLimits())


@pytest.fixture(scope="session")
def edge(shared_bus: MemoryBus) -> Iterator[Served]:
    """A server with the default settings on `shared_bus`."""
    with served(create_app(shared_bus, settings=EdgeSettings())) as server:
        yield server


@pytest.fixture
def project() -> str:
    """A project that no other test has."""
    return f"p-{uuid4().hex[:12]}"


@pytest.fixture
def producer(project: str) -> Producer:
    """A producer of the stage `rewrite` of the test's project."""
    return Producer(Topic(project, "rewrite"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bus(clock: Clock) -> MemoryBus:
    return MemoryBus(CODEC, BusLimits(), clock=clock)


@pytest.fixture
def hasty_bus(clock: Clock) -> MemoryBus:
    """Gives up what nobody restores after a short lease."""
    return MemoryBus(CODEC, BusLimits(lease=0.3), clock=clock)


@pytest.fixture
async def hub(bus: MemoryBus, clock: Clock) -> AsyncIterator[Hub]:
    async with hub_on(bus, clock=clock) as made:
        yield made


@pytest.fixture
def writer() -> Producer:
    """A producer of the stage that hub tests watch."""
    return Producer(STAGE)
