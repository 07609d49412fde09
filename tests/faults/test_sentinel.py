"""A failover by real Sentinels in mid-stream: the bus moves to the new master, every viewer ends with the exact text.

What the old master has acknowledged meanwhile is lost with it; the living publisher puts it back.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from typing import Any, cast

import pytest
from attrs import field, frozen

from stagecast import RedisStreamPublisher, RedisStreamSubscriber
from stagecast.adapters.redis import feed
from stagecast.adapters.redis.bus import RedisBus, open_redis_bus
from stagecast.adapters.redis.settings import ConnectionSettings
from stagecast.adapters.redis.state import Keys, position_of
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic
from stagecast.entrypoints.background import background
from stagecast.entrypoints.sse import create_app
from stagecast.entrypoints.wiring import CODEC
from tests.faults.proxy import Proxy
from tests.faults.rewound import assert_rising_between_resets
from tests.faults.scenario import IMPATIENT, LIMITS, SETTINGS, Scene, Visitor, listened, published
from tests.faults.sentinel import NAME, Trio, replication, sentinel, sentinel_trio
from tests.reading import rebuilt
from tests.servers import RedisKind, RedisServer, available_redis_kinds, start_redis
from tests.sse.browser import project_path, request, stage_path
from tests.sse.serving import served
from tests.sse.texts import from_deltas
from tests.waiting import eventually

PATIENT = ConnectionSettings(connect_timeout=2, command_timeout=20)
SECONDS = 40.0


@frozen
class Failover:
    """A scene before Sentinels."""

    scene: Scene
    trio: Trio
    bus: RedisBus
    """The publisher's."""
    sentinel: Proxy
    """Before the only Sentinel that the bus knows, where it knows only one."""
    items: list[int] = field(factory=list)
    """What was published of the stage besides its text."""

    async def moved(self, old: RedisServer) -> None:
        """Wait until the Sentinels name another master than `old`."""
        await eventually(lambda: asyncio.to_thread(lambda: self.trio.master is not old), SECONDS)

    async def left(self, old: RedisServer) -> None:
        """Wait until no connection of ours leads to `old`."""
        await eventually(lambda: asyncio.to_thread(lambda: ours(old) == 0), SECONDS)

    async def end_at(self, server: RedisServer) -> Position | None:
        """Where the project's log ends there."""

        def asked() -> Position | None:
            with server.client() as client:
                entries: Any = client.xrevrange(Keys(self.scene.project).log, count=1)
                return position_of(entries[0][0]) if entries else None

        return await asyncio.to_thread(asked)


def ours(server: RedisServer) -> int:
    """How many connections of stagecast's a server has."""
    with server.client() as client:
        return sum(one["name"] == "stagecast" for one in client.client_list())


async def crash(failover: Failover) -> None:
    """The master is killed."""
    old = failover.trio.master
    await asyncio.to_thread(old.kill)
    await failover.moved(old)


async def switch(failover: Failover) -> None:
    """R17: the Sentinels are told to switch. The old master takes writes until they demote it, ten seconds later."""
    trio = failover.trio
    old = trio.master
    with trio.sentinels[0].client() as client:
        client.execute_command("SENTINEL", "FAILOVER", NAME)
    await failover.moved(old)
    await failover.left(old)
    assert replication(old)["role"] == "master", "the bus has not waited until it was thrown out"


async def stall(failover: Failover) -> None:
    """The master is frozen, replaced, and wakes as one of two masters; what waited for it is acknowledged, and lost."""
    await _stall(failover, ahead=0)


async def overtaken(failover: Failover) -> None:
    """The same, and meanwhile the new master's log has grown beyond what the old one acknowledges then."""
    await _stall(failover, ahead=2000)


async def _stall(failover: Failover, ahead: int) -> None:
    old, project = failover.trio.master, failover.scene.project
    with RedisStreamPublisher(project, "rewrite", bus=failover.bus) as beside:
        assert beside.publish_item_completed("image", 1)
        assert await asyncio.to_thread(beside.flush, SECONDS)
        await failover.scene.goes_on()
        old.pause()
        assert beside.publish_item_completed("image", 2)
        failover.items.extend([1, 2])
        await failover.moved(old)
        before = await failover.end_at(failover.trio.master)
        assert before is not None
        if ahead:
            await _publish_to_the_new(failover, ahead)
        old.resume()
        assert await asyncio.to_thread(beside.flush, SECONDS)
        after = await failover.end_at(old)
        assert after is not None
        assert before < after
        assert not ahead or after < Position(before.epoch, before.n + ahead)
        await failover.left(old)


async def _publish_to_the_new(failover: Failover, count: int) -> None:
    """Publish events of another stage, from a process that has not known the old master."""
    fresh = open_redis_bus(failover.trio.url, CODEC, LIMITS)
    try:
        with RedisStreamPublisher(failover.scene.project, "other", bus=fresh) as other:
            for number in range(count):
                assert other.publish_progress(number, count)
            assert await asyncio.to_thread(other.flush, SECONDS)
    finally:
        background().call(fresh.aclose(), 5)


async def blindness(failover: Failover) -> None:
    """Nobody answers for the Sentinels: who is connected goes on, and who is not waits until they answer again."""
    failover.sentinel.black_hole()
    await failover.scene.goes_on(300)
    old = failover.trio.master
    end = await failover.end_at(old)
    await failover.scene.goes_on(50)
    assert await failover.end_at(old) != end, "the bus does not go on"
    await asyncio.to_thread(old.kill)
    await failover.moved(old)
    await failover.scene.goes_on(50)
    failover.sentinel.heal()


@frozen
class Case:
    inject: Callable[[Failover], Awaitable[None]]
    kind: RedisKind
    settings: ConnectionSettings = IMPATIENT

    def __str__(self) -> str:
        return f"{self.inject.__name__}-{self.kind}"


KINDS = cycle(available_redis_kinds())
CASES = [
    Case(crash, next(KINDS)),
    Case(switch, next(KINDS)),
    Case(stall, next(KINDS), PATIENT),
    Case(overtaken, next(KINDS), PATIENT),
    Case(blindness, next(KINDS)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_viewers_end_with_the_exact_text_over_a_failover(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """R17: publisher, viewers and Python readers move to the new master; nothing is lost and nothing comes twice."""
    monkeypatch.setattr(feed, "LOOK", 0.5)  # the sooner a feed looks, the shorter the test
    async with _stage_set(case) as (failover, port), published(failover.scene, failover.bus) as finish:
        scene = failover.scene
        path = stage_path(scene.project)
        standing = asyncio.Event()
        listener = asyncio.create_task(listened(scene.project, failover.bus, standing))
        async with request(port, path) as whole, request(port, project_path(scene.project, "delta=1")) as delta:
            viewers = [asyncio.create_task(each.until_type("done", "error")) for each in (whole, delta)]
            await scene.goes_on()
            await asyncio.wait_for(standing.wait(), 20)
            restless = Visitor(port, path, stay=0.5)
            visitor = asyncio.create_task(restless.watch("done", "error"))
            await case.inject(failover)
            await scene.goes_on()
            text = await finish()
            messages, deltas = await asyncio.gather(*viewers)
            assert from_deltas(deltas) == text
            for seen in (messages, await listener, await visitor):
                assert seen[-1]["type"] == "done"
                assert rebuilt(seen) == text
            assert deltas[-1]["type"] == "done"
            with RedisStreamSubscriber(scene.project, "rewrite", bus=failover.bus) as late:
                kept = await asyncio.to_thread(lambda: list(late.listen(SECONDS)))
            assert rebuilt(kept) == text
            assert [one["sequence_number"] for one in kept if one["type"] == "item_completed"] == failover.items
            assert_rising_between_resets(whole)
            assert_rising_between_resets(delta)


@asynccontextmanager
async def _stage_set(case: Case) -> AsyncIterator[tuple[Failover, int]]:
    """The scene, and the port of an SSE server."""
    async with AsyncExitStack() as stack:
        trio = stack.enter_context(sentinel_trio(case.kind))
        proxy = stack.enter_context(Proxy(trio.sentinels[0].port))
        url = f"redis+sentinel://127.0.0.1:{proxy.port}/{NAME}" if case.inject is blindness else trio.url
        bus, server_bus = (open_redis_bus(url, CODEC, LIMITS, case.settings) for _ in range(2))
        running = stack.enter_context(served(create_app(server_bus, settings=SETTINGS)))
        stack.push_async_callback(server_bus.aclose)
        stack.callback(lambda: background().call(bus.aclose(), 5))
        scene = Scene(trio.servers[0], cast(Proxy, None), f"p-{case.inject.__name__}")
        yield Failover(scene, trio, bus, proxy), running.port


def test_both_have_passwords(redis_kind: RedisKind) -> None:
    """The URL has Redis's password and the Sentinels' own; with a wrong one the bus is away, and tells no password."""
    with start_redis(redis_kind) as server, sentinel(redis_kind, server.port) as watcher:
        with server.client() as client, watcher.client() as guard:
            client.config_set("requirepass", "of-redis")
            guard.execute_command("SENTINEL", "SET", NAME, "auth-pass", "of-redis")
            guard.execute_command("ACL", "SETUSER", "default", "resetpass", ">of-sentinel")
        host = f"127.0.0.1:{watcher.port}/{NAME}"
        bus = open_redis_bus(f"redis+sentinel://:of-redis@{host}/1?sentinel_password=of-sentinel", CODEC, LIMITS)
        with (
            RedisStreamSubscriber("123", "rewrite", bus=bus) as subscriber,
            RedisStreamPublisher("123", "rewrite", bus=bus) as publisher,
        ):
            assert publisher.publish_token("text")
            assert publisher.publish_done(publisher.text)
            assert rebuilt(list(subscriber.listen(SECONDS))) == "text"
        background().call(bus.aclose(), 5)
        for wrong in ("of-nobody@{}?sentinel_password=of-sentinel", "of-redis@{}?sentinel_password=of-nobody"):
            bus = open_redis_bus(f"redis+sentinel://:{wrong.format(host)}", CODEC, LIMITS, IMPATIENT)
            with pytest.raises(BusUnavailable) as refusal:
                RedisStreamSubscriber("123", "rewrite", bus=bus)
            assert "of-nobody" not in str(refusal.value)
            background().call(bus.aclose(), 5)


async def test_a_service_that_no_sentinel_knows(any_redis: RedisServer) -> None:
    """A master's name that is wrong, and a server that is no Sentinel, are told as such, and count as an outage."""
    kind = available_redis_kinds()[0]
    with sentinel(kind, any_redis.port) as watcher:
        for port, message in (
            (watcher.port, "none of 1 Sentinels names a master 'other'"),
            (any_redis.port, "(?i)sentinel"),
        ):
            bus = open_redis_bus(f"redis+sentinel://127.0.0.1:{port}/other", CODEC, LIMITS, IMPATIENT)
            with pytest.raises(BusUnavailable, match=message):
                async with bus.subscribe(Topic("p")):
                    pass
            await bus.aclose()
