"""Subscriptions that begin while the feed's connection is being made, and that end while it is being closed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stagecast.adapters.redis.bus import RedisBus, open_redis_bus
from stagecast.adapters.redis.link import FeedConnection
from stagecast.domain.bus import BusLimits, Snapshot
from stagecast.domain.topics import Topic
from stagecast.entrypoints.testing.actors import CODEC
from tests.servers import RedisServer


@pytest.fixture
async def bus(any_redis: RedisServer) -> AsyncIterator[RedisBus]:
    made = open_redis_bus(any_redis.url, CODEC, BusLimits())
    yield made
    await made.aclose()


async def test_another_project_joins_while_the_first_is_being_subscribed(
    bus: RedisBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not among those that the feed has just asked for, so it asks itself: both are confirmed."""
    sending, go_on = asyncio.Event(), asyncio.Event()
    send = FeedConnection.send

    async def slow(self: FeedConnection, *command: str) -> None:
        if command == ("SUBSCRIBE", "stagecast:1:{first}:feed"):
            sending.set()
            await go_on.wait()
        await send(self, *command)

    monkeypatch.setattr(FeedConnection, "send", slow)
    first = asyncio.create_task(_subscribed(bus, "first"))
    await asyncio.wait_for(sending.wait(), 10)
    second = asyncio.create_task(_subscribed(bus, "second"))
    await asyncio.sleep(0)
    go_on.set()
    assert all(await asyncio.gather(first, second))


async def _subscribed(bus: RedisBus, project: str) -> bool:
    async with bus.subscribe(Topic(project)) as subscription:
        return isinstance(await anext(subscription), Snapshot)


async def test_a_project_leaves_while_the_connection_is_closed(bus: RedisBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """What redis-py says of a connection that is closed under a command never reaches who unsubscribes."""
    async with bus.subscribe(Topic("stays")):
        subscription: Any = bus.subscribe(Topic("leaves"))
        await subscription.__aenter__()
        connection = bus._loops.here().feed._connection
        assert connection is not None
        write = connection.connection._send_packed_command

        async def closed_meanwhile(*arguments: Any) -> None:
            await connection.close()
            await write(*arguments)

        monkeypatch.setattr(connection.connection, "_send_packed_command", closed_meanwhile)
        await subscription.__aexit__(None, None, None)
