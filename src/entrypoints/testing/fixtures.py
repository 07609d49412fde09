"""The plugin's fixtures under short names, for a project that asks for them in its conftest.py:

    pytest_plugins = ["stagecast.entrypoints.testing.fixtures"]

The plugin itself, which every project has that has stagecast installed, takes no name that is not its own.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from stagecast.adapters.memory import MemoryBus
    from stagecast.entrypoints.publishers import RedisStreamPublisher
    from stagecast.entrypoints.subscribers import RedisStreamSubscriber

    from .clock import VirtualClock
    from .harness import Harness
    from .recorder import Recorder


@pytest.fixture
def clock(stagecast_clock: "VirtualClock") -> "VirtualClock":
    """`stagecast_clock`."""
    return stagecast_clock


@pytest.fixture
def bus(stagecast_bus: "MemoryBus") -> "MemoryBus":
    """`stagecast_bus`."""
    return stagecast_bus


@pytest.fixture
def publisher(stagecast_publisher: "RedisStreamPublisher") -> "RedisStreamPublisher":
    """`stagecast_publisher`."""
    return stagecast_publisher


@pytest.fixture
def subscriber(stagecast_subscriber: "RedisStreamSubscriber") -> "RedisStreamSubscriber":
    """`stagecast_subscriber`."""
    return stagecast_subscriber


@pytest.fixture
def recorder(stagecast_recorder: "Recorder") -> "Recorder":
    """`stagecast_recorder`."""
    return stagecast_recorder


@pytest.fixture
def harness(stagecast_harness: "Harness") -> "Harness":
    """`stagecast_harness`."""
    return stagecast_harness
