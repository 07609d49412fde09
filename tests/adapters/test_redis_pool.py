"""The pool that a process's commands share: its maximum, and what it costs to wait for it."""

import asyncio

import pytest

from stagecast.adapters.codec import JsonCodec
from stagecast.adapters.redis.bus import open_redis_bus
from stagecast.adapters.redis.settings import ConnectionSettings
from stagecast.domain.bus import BusLimits, Snapshot
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.topics import Topic
from tests.servers import RedisServer
from tests.waiting import eventually

CODEC = JsonCodec()


def connections(server: RedisServer) -> int:
    with server.client() as client:
        return sum(one["name"] == "stagecast" for one in client.client_list())


@pytest.mark.parametrize("most", [1, 2, 4])
async def test_commands_share_a_pool_with_a_maximum(any_redis: RedisServer, most: int) -> None:
    """R99, R100: 40 subscriptions begin at once; all are served, on `max_connections` and the feed's one."""
    await eventually(lambda: connections(any_redis) == 0)
    bus = open_redis_bus(any_redis.url, CODEC, BusLimits(), ConnectionSettings(max_connections=most))
    seen: list[int] = []

    async def watch(number: int) -> None:
        async with bus.subscribe(Topic(f"p{number}")) as subscription:
            assert isinstance(await anext(subscription), Snapshot)
            seen.append(connections(any_redis))

    try:
        await asyncio.gather(*(watch(number) for number in range(40)))
    finally:
        await bus.aclose()
    assert len(seen) == 40
    assert max(seen) <= most + 1
    if most > 1:
        assert max(seen) > 2, "the setting has an effect"


async def test_who_waits_too_long_for_a_server_is_told(any_redis: RedisServer) -> None:
    """`command_timeout` bounds a command to a server that is there and does not answer: BusUnavailable."""
    settings = ConnectionSettings(command_timeout=0.2, connect_timeout=0.2)
    bus = open_redis_bus(any_redis.url, CODEC, BusLimits(), settings)
    try:
        async with bus.subscribe(Topic("warm")) as subscription:
            await anext(subscription)
        any_redis.pause()
        try:
            with pytest.raises(BusUnavailable):
                async with asyncio.timeout(30), bus.subscribe(Topic("p")) as subscription:
                    await anext(subscription)
        finally:
            any_redis.resume()
    finally:
        await bus.aclose()
