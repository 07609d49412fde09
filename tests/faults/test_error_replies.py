"""A Redis that answers with errors in mid-stream: a living publisher's viewers end with the exact text all the same.

An error counts as an outage: what cannot be written waits, and is said once in the log.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import cycle
from typing import Any, Literal, TypeAlias

import pytest
import redis
from attrs import frozen

from stagecast import RedisStreamPublisher, RedisStreamSubscriber
from stagecast.adapters.redis.bus import open_redis_bus
from stagecast.adapters.redis.state import Keys
from stagecast.domain.bus import BusLimits
from stagecast.entrypoints.background import background
from stagecast.entrypoints.wiring import CODEC
from tests.faults.rewound import assert_rising_between_resets
from tests.faults.scenario import IMPATIENT, LIMITS, Fault, Scene, Visitor, published, stage_set
from tests.reading import rebuilt
from tests.servers import RedisKind, RedisServer, available_redis_kinds, free_port, start_redis
from tests.sse.browser import project_path, request, stage_path
from tests.sse.texts import from_deltas
from tests.waiting import eventually

SECONDS = 30.0
MOST_WARNINGS = 6
"""Of an outage: the publisher's, the feed's, those of a server that makes its subscription again, and of `/readyz`."""

Erring: TypeAlias = Callable[[Scene], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def busy(scene: Scene) -> AsyncIterator[None]:
    """BUSY: somebody's script does not end."""
    await scene.ask("CONFIG", "SET", "busy-reply-threshold", "10")
    with scene.server.client(timeout=SECONDS) as client:
        running = asyncio.create_task(asyncio.to_thread(_endless, client))
        await eventually(lambda: _answers(scene, "BUSY", "PING"), SECONDS)
        yield
        await scene.ask("SCRIPT", "KILL")
        await running


def _endless(client: redis.Redis) -> None:
    with pytest.raises(redis.ResponseError):
        client.eval("while true do end", 0)


async def _answers(scene: Scene, word: str, *command: str) -> bool:
    try:
        await scene.ask(*command)
    except redis.RedisError as error:
        return word.lower() in f"{type(error).__name__} {error}".lower()
    return False


@asynccontextmanager
async def oom(scene: Scene) -> AsyncIterator[None]:
    """OOM: the memory's limit is reached, and nothing may be evicted."""
    await scene.ask("CONFIG", "SET", "maxmemory", "1")
    yield
    await scene.ask("CONFIG", "SET", "maxmemory", "0")


@asynccontextmanager
async def misconf(scene: Scene) -> AsyncIterator[None]:
    """MISCONF: the last dump could not be written to the disk."""
    (scene.server.folder / "dump.rdb").mkdir()
    await scene.ask("CONFIG", "SET", "save", "3600 1000000")
    await scene.ask("BGSAVE")
    await eventually(lambda: _answers(scene, "MISCONF", "SET", "key", "value"), SECONDS)
    yield
    await scene.ask("CONFIG", "SET", "save", "")  # or it would not end in the end


@asynccontextmanager
async def noreplicas(scene: Scene) -> AsyncIterator[None]:
    """NOREPLICAS: `min-replicas-to-write` is not satisfied, as on a master that is cut off from its replicas."""
    await scene.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    yield
    await scene.ask("CONFIG", "SET", "min-replicas-to-write", "0")


@asynccontextmanager
async def readonly(scene: Scene) -> AsyncIterator[None]:
    """R18, READONLY: the server is demoted to a replica, and promoted again."""
    await scene.ask("REPLICAOF", "127.0.0.1", str(free_port()))
    yield
    await scene.ask("REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def noauth(scene: Scene) -> AsyncIterator[None]:
    """NOAUTH: a password is set that nobody here has, and all connections are killed."""
    with scene.server.client() as client:
        client.config_set("requirepass", "secret")
        _kill_all(client)
        yield
        client.config_set("requirepass", "")


@asynccontextmanager
async def maxclients(scene: Scene) -> AsyncIterator[None]:
    """The server takes no more connections than the one of an operator, and has killed all others."""
    with scene.server.client() as client:
        before = str(client.config_get("maxclients")["maxclients"])
        client.config_set("maxclients", 1)
        _kill_all(client)
        yield
        client.config_set("maxclients", before)


def _kill_all(client: redis.Redis) -> None:
    for kind in ("normal", "pubsub"):
        client.client_kill_filter(_type=kind, skipme=True)


@asynccontextmanager
async def loading(scene: Scene) -> AsyncIterator[None]:
    """LOADING: the server was killed, and takes its time to load an older dump."""
    with scene.server.client() as client:
        for number in range(2000):
            client.set(f"ballast:{number}", "x" * 100)
        client.save()
    await scene.goes_on()
    await asyncio.to_thread(scene.server.kill)
    slowly = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"]
    await asyncio.to_thread(scene.server.start, *slowly)
    assert await _answers(scene, "LOADING", "PING")
    yield
    await eventually(lambda: _is_loaded(scene), SECONDS)


async def _is_loaded(scene: Scene) -> bool:
    return not await _answers(scene, "LOADING", "PING")


@asynccontextmanager
async def noscript(scene: Scene) -> AsyncIterator[None]:
    """NOSCRIPT: the scripts are forgotten, again and again."""
    for _ in range(5):
        await scene.ask("SCRIPT", "FLUSH")
        await scene.goes_on()
    yield


@frozen
class Case:
    err: Erring
    kind: RedisKind
    stops: Literal["all", "writes", "nothing"]
    """What the error makes impossible. `/readyz` tells where it is all."""

    def __str__(self) -> str:
        return f"{self.err.__name__}-{self.kind}"


KINDS = cycle(available_redis_kinds())
CASES = [
    *(Case(err, next(KINDS), "all") for err in (busy, noauth, maxclients, loading)),
    *(Case(err, next(KINDS), "writes") for err in (oom, misconf, noreplicas, readonly)),
    Case(noscript, next(KINDS), "nothing"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_viewers_end_with_the_exact_text_after_error_replies(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    """R18: Nothing is lost, nothing comes twice, the publisher sees no failure, and the log tells of it once.

    Where viewers could not be served the server says that it is not ready; where only writes fail it stays ready.
    """
    caplog.set_level(logging.INFO, "stagecast")
    async with stage_set(Fault(noop, kind=case.kind)) as (scene, bus, port), published(scene, bus) as finish:
        path = stage_path(scene.project)
        async with request(port, path) as whole, request(port, project_path(scene.project, "delta=1")) as delta:
            viewers = [asyncio.create_task(each.until_type("done", "error")) for each in (whole, delta)]
            await scene.goes_on()
            visitor = Visitor(port, path)
            async with case.err(scene):
                visiting = asyncio.create_task(visitor.watch("done", "error"))
                if case.stops != "nothing":
                    await eventually(lambda: "the bus is away" in caplog.text, SECONDS)
                    await scene.goes_on(100)
                async with request(port, "/readyz") as response:
                    assert response.status == (503 if case.stops == "all" else 200)
            if case.stops != "nothing":
                await eventually(lambda: "the bus is back" in caplog.text, SECONDS)
            await scene.goes_on()
            text = await finish()
            messages, deltas = await asyncio.gather(*viewers)
            assert rebuilt(messages) == rebuilt(await visiting) == from_deltas(deltas) == text
            assert messages[-1]["type"] == deltas[-1]["type"] == "done"
            assert_rising_between_resets(whole)
            assert_rising_between_resets(delta)
            warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
            of_publisher = [record for record in warned if record.name == "stagecast.publisher"]
            most = 0 if case.stops == "nothing" else MOST_WARNINGS
            assert len(of_publisher) == min(most, 1)
            assert len(warned) <= most, [one.getMessage() for one in warned]
            assert {record.levelno for record in warned} <= {logging.WARNING}


async def noop(scene: Scene) -> None:
    """`Fault` wants something; the faults here are of another form."""


async def test_a_replica_takes_nothing_until_it_is_promoted(caplog: pytest.LogCaptureFixture) -> None:
    """R18: Publishing to a replica that stays one is never a success and fails nothing; promoted, it gets it all."""
    kind = available_redis_kinds()[0]
    with (
        start_redis(kind) as master,
        start_redis(kind, extra_args=["--replicaof", f"127.0.0.1 {master.port}"]) as server,
    ):
        bus = open_redis_bus(server.url, CODEC, LIMITS, IMPATIENT)
        with RedisStreamPublisher("123", "rewrite", bus=bus, timeout=1) as publisher:
            for number in range(500):
                assert publisher.publish_token(f"{number} ")
            assert not await asyncio.to_thread(publisher.flush, 1)
            assert not await asyncio.to_thread(publisher.publish_done)
            assert [one.levelname for one in caplog.records if one.name == "stagecast.publisher"] == ["WARNING"]
            assert "the bus is away" in caplog.text
            with server.client() as client:
                assert client.exists(Keys("123").log) == 0
                client.replicaof("NO", "ONE")
            assert await asyncio.to_thread(publisher.flush, SECONDS)
            with RedisStreamSubscriber("123", "rewrite", bus=bus) as late:
                assert rebuilt(await asyncio.to_thread(lambda: list(late.listen(SECONDS)))) == publisher.text
        background().call(bus.aclose(), 5)


def test_nothing_but_messages_comes_between_subscribing_and_not(any_redis: RedisServer) -> None:
    """R14: With pings all the time and strange frames on the feed, a message is a message of the stage, or None."""
    bus = open_redis_bus(f"{any_redis.url}?health_check_interval=1", CODEC, BusLimits(lease=0.4), IMPATIENT)
    with (
        any_redis.client() as foreign,
        RedisStreamPublisher("123", "rewrite", bus=bus) as publisher,
        RedisStreamSubscriber("other", bus=bus),
    ):
        subscriber = RedisStreamSubscriber("123", "rewrite", bus=bus)
        got: list[Any] = []
        for number in range(500):
            subscriber.subscribe()
            publisher.publish_token(f"{number} ")
            foreign.publish(Keys("123").feed, f"strange {number}")
            got.append(subscriber.get_message(0.001))
            subscriber.unsubscribe()
            got.append(subscriber.get_message(0.001))
            subscriber.unsubscribe()
        assert publisher.publish_done(publisher.text)
        got += subscriber.listen(SECONDS)
        subscriber.close()
    background().call(bus.aclose(), 5)
    messages = [one for one in got if one is not None]
    assert {one["type"] for one in messages} == {"token", "done"}
    assert rebuilt(messages) == publisher.text
