"""The test servers are real: they start, lose or keep data as asked, and are gone after the block."""

import os

import pytest
import redis
from redis.asyncio import Redis as AsyncRedis

from tests.servers import KINDS, RedisKind, RedisServer, StartFailed, available_redis_kinds, start_redis
from tests.waiting import eventually, wait_until

VERSIONS: dict[RedisKind, tuple[str, str]] = {
    "valkey": ("valkey_version", "9."),
    "redis8": ("redis_version", "8."),
    "redis7": ("redis_version", "7."),
}


def test_wheels_bring_servers() -> None:
    """The kinds that come as wheels are there without a system package."""
    assert {"valkey", "redis8"} <= set(available_redis_kinds())


def test_server_is_what_its_kind_says(redis_server: RedisServer) -> None:
    """Each kind answers with its own major version and without the FalkorDB module."""
    field, prefix = VERSIONS[redis_server.kind]
    with redis_server.client() as client:
        assert client.info("server")[field].startswith(prefix)
        assert b"graph" not in [module[b"name"] for module in client.module_list()]


def test_start_restart_stop(redis_kind: RedisKind) -> None:
    """A server answers on its url, comes back empty on the same port after a crash, and is gone at the end."""
    with start_redis(redis_kind) as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("key", "value")
        first = server.pid
        server.kill()
        assert not server.running
        server.restart()
        assert server.pid != first
        with redis.Redis.from_url(server.url) as client:
            assert client.get("key") is None
        last, folder = server.pid, server.folder
    assert not folder.exists()
    for pid in (first, last):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with server.client() as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_persistence_survives_a_crash(redis_kind: RedisKind) -> None:
    """With persistence, a write that was answered is there after SIGKILL."""
    with start_redis(redis_kind, persistence=True) as server:
        with server.client() as client:
            client.set("key", "value")
        server.kill()
        server.restart()
        with server.client() as client:
            assert client.get("key") == b"value"


def test_pause_and_resume(redis_kind: RedisKind) -> None:
    """A paused server keeps its connections and answers nobody until it is resumed."""
    with start_redis(redis_kind) as server:
        with server.client(timeout=0.1) as client:
            client.ping()
            server.pause()
            with pytest.raises(redis.TimeoutError):
                client.ping()
        server.resume()
        with server.client() as client:
            assert client.ping()
        server.pause()  # and a paused one is stopped all the same


@pytest.mark.parametrize("key", ["first", "second"])
def test_shared_servers_are_emptied(redis_server: RedisServer, any_redis: RedisServer, key: str) -> None:
    """No test sees what another one wrote to a shared server."""
    for server in (redis_server, any_redis):
        with server.client() as client:
            assert client.dbsize() == 0
            client.set(key, "value")


def test_a_failed_start_shows_the_log(any_redis: RedisServer) -> None:
    """A server that can't start raises with what it logged, and a taken port is not mistaken for it."""
    with pytest.raises(StartFailed, match="in use"), start_redis(any_redis.kind, port=any_redis.port):
        pass


def test_wait_until_has_a_deadline() -> None:
    """Waiting returns the first true value and fails with the last false one."""
    values = iter([0, 0, 7])
    assert wait_until(lambda: next(values)) == 7
    with pytest.raises(AssertionError, match="the last value was 0"):
        wait_until(lambda: 0, timeout=0.02)


async def test_eventually_takes_functions_and_coroutine_functions(any_redis: RedisServer) -> None:
    """The async twin of wait_until lets the event loop go on."""
    async with AsyncRedis.from_url(any_redis.url) as client:
        await client.set("key", "value")
        assert await eventually(lambda: client.get("key")) == b"value"
    assert await eventually(lambda: 7) == 7
    with pytest.raises(AssertionError, match="the last value was 0"):
        await eventually(lambda: 0, timeout=0.02)


def test_kinds_are_named() -> None:
    """Every kind has a version to check."""
    assert set(VERSIONS) == set(KINDS)
