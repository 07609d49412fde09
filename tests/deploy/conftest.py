"""Fixtures: a bus, a server on it, and a project for each test."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.wiring import CODEC
from tests.browser.conftest import chromium as chromium
from tests.sse.serving import Served, served

HEARTBEAT = 0.3
"""Below the read timeout of the tests, as 15 s is below the shipped one."""


@pytest.fixture
def project() -> str:
    """A project that no other test has."""
    return f"p-{uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def bus() -> MemoryBus:
    return MemoryBus(CODEC, BusLimits())


@pytest.fixture(scope="module")
def edge(bus: MemoryBus) -> Iterator[Served]:
    """A server with a quick heartbeat."""
    with served(create_app(bus, settings=EdgeSettings(heartbeat=HEARTBEAT))) as server:
        yield server
