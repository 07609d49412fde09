"""The pool that a process's commands share: its maximum, and what it costs to wait for it."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stagecast.adapters.codec import JsonCodec
from stagecast.adapters.redis.bus import open_redis_bus
from stagecast.adapters.redis.link import connect_to
from stagecast.adapters.redis.packing import PackingPool
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


def pool_of(server: RedisServer, **settings: Any) -> PackingPool:
    pool = connect_to(server.url, ConnectionSettings(**settings))(max_connections=1).connection_pool
    assert isinstance(pool, PackingPool)
    return pool


async def test_asking_gets_answers_in_turn(any_redis: RedisServer) -> None:
    """On one connection, first come, first served; an error reply is the asker's own and costs no connection."""
    pool = pool_of(any_redis)
    try:
        answers = await asyncio.gather(*(pool.ask("ECHO", str(number)) for number in range(50)))
        assert answers == [str(number).encode() for number in range(50)]
        with pytest.raises(ResponseError):
            await pool.ask("NONSENSE")
        assert await pool.ask("ECHO", "on") == b"on"
        assert connections(any_redis) == 1
    finally:
        await pool.disconnect()


async def test_who_goes_leaves_no_answer_for_others(any_redis: RedisServer) -> None:
    """A cancelled and a timed-out asker's late answers are never taken for somebody else's."""
    pool = pool_of(any_redis, command_timeout=0.3)
    try:
        await pool.ask("PING")
        any_redis.pause()
        try:
            gone = asyncio.create_task(pool.ask("ECHO", "late"))
            await asyncio.sleep(0)
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            with pytest.raises(RedisTimeoutError):
                await pool.ask("ECHO", "too late")
        finally:
            any_redis.resume()
        assert await pool.ask("ECHO", "mine") == b"mine"
    finally:
        await pool.disconnect()


async def test_who_waits_too_long_for_a_connection_is_told(any_redis: RedisServer) -> None:
    """And who comes later gets it."""
    pool = pool_of(any_redis, command_timeout=0.2)
    taken = await pool.get_connection()
    with pytest.raises(RedisConnectionError, match="No connection available"):
        await pool.ask("PING")
    waiting = asyncio.create_task(pool.ask("ECHO", "then"))
    await asyncio.sleep(0)
    await pool.release(taken)
    assert await waiting == b"then"
    await pool.disconnect()


async def test_a_closed_connection_is_made_again_once(any_redis: RedisServer) -> None:
    """Whether the server closes it between two commands or while one is on its way."""
    pool = pool_of(any_redis)
    try:
        await pool.ask("PING")
        with any_redis.client() as client:
            client.client_kill_filter(_type="normal")
        assert await pool.ask("ECHO", "again") == b"again"
        asking = asyncio.create_task(pool.ask("BLPOP", "nothing", 0))
        with any_redis.client() as client:
            await eventually(lambda: _is_blocked(client))
            client.client_kill_filter(_type="normal")
            await eventually(lambda: _is_blocked(client))
            client.rpush("nothing", "something")
        assert await asking == [b"nothing", b"something"]
    finally:
        await pool.disconnect()


def _is_blocked(client: Any) -> bool:
    return bool(client.info("clients")["blocked_clients"])


async def test_a_command_under_way_does_not_outlive_its_pool(any_redis: RedisServer) -> None:
    """What is closed stays closed: the quiet retry of a torn connection would make another one that nobody closes."""
    await eventually(lambda: connections(any_redis) == 0)
    pool = connect_to(any_redis.url)(max_connections=1).connection_pool
    assert isinstance(pool, PackingPool)
    waiting = asyncio.ensure_future(pool.ask("BLPOP", "nothing", 60))
    await eventually(lambda: connections(any_redis) == 1)
    await pool.aclose()
    with pytest.raises(RedisConnectionError):
        await asyncio.wait_for(waiting, 10)
    await eventually(lambda: connections(any_redis) == 0)
