"""Promises of the seed that no example of its document shows: its numbers, and what the end of a `with` does."""

from pathlib import Path

import pytest

from stagecast import RedisStreamPublisher, RedisStreamSubscriber
from stagecast.adapters.codec import JsonCodec
from stagecast.adapters.memory import MemoryBus
from stagecast.adapters.redis.settings import ConnectionSettings
from stagecast.domain.errors import StagecastError
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import EdgeSettings
from tests.reading import told

REDIS = Path(__file__).parents[2] / "deploy" / "redis.conf"
PROJECT, STAGE = "123", "rewrite"


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus(JsonCodec())


def test_the_streams_keep_the_seeds_times() -> None:
    """Where nothing is configured: a heartbeat every 15 s; idle ends after 600 s of a stage, 1,800 s of a project."""
    settings = EdgeSettings()
    assert (settings.heartbeat, settings.stage_idle, settings.project_idle) == (15, 600, 1800)


def test_redis_is_given_the_seeds_times() -> None:
    """Where nothing is configured: 5 s to connect, 5 s for a command."""
    settings = ConnectionSettings()
    assert (settings.connect_timeout, settings.command_timeout) == (5, 5)


def test_the_end_of_the_block_closes_the_publisher(bus: MemoryBus) -> None:
    """What was said is delivered, the lease is given back, and what comes later is refused."""
    with RedisStreamPublisher(PROJECT, STAGE, bus=bus) as publisher:
        publisher.publish_token("Hello")
    assert bus.liveness(Topic(PROJECT)).active == frozenset()
    assert publisher.publish_token("late") is False
    assert publisher.run_id is not None, "the token was delivered"


def test_the_end_of_the_block_closes_the_subscriber(bus: MemoryBus) -> None:
    """It can be used no more."""
    with RedisStreamSubscriber(PROJECT, STAGE, bus=bus) as subscriber:
        pass
    with pytest.raises(StagecastError, match="closed"):
        subscriber.get_message(0)


def test_the_subscription_stands_when_the_constructor_returns(bus: MemoryBus) -> None:
    """A run that began and ended before the first `get_message` is received, not only the one after it."""
    with RedisStreamSubscriber(PROJECT, STAGE, bus=bus) as subscriber:
        with RedisStreamPublisher(PROJECT, STAGE, bus=bus) as publisher:
            for text in ("first", "second"):
                publisher.publish_token(text)
                publisher.publish_done(text)
        message = subscriber.get_message(5)
    assert message is not None
    assert message["content"] == "first"


@pytest.mark.timeout(20)
def test_a_skipped_stage_ends_a_listener_that_would_wait_for_ever(bus: MemoryBus) -> None:
    """Without a timeout of its own, `listen` ends with the status `skipped`."""
    with RedisStreamSubscriber(PROJECT, STAGE, bus=bus) as subscriber:
        with RedisStreamPublisher(PROJECT, STAGE, bus=bus) as publisher:
            publisher.publish_stage_update("skipped", 100)
        assert told(subscriber.listen()) == ["skipped"]


def test_the_shipped_redis_writes_nothing_to_disk() -> None:
    """Neither snapshots nor an append-only file."""
    assert {'save ""', "appendonly no"} <= set(REDIS.read_text("utf-8").splitlines())
