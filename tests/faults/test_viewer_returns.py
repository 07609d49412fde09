"""Viewers that come back: after cuts, with a position that is none, or when what they have seen is trimmed or gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise

import pytest

from stagecast.adapters.redis.bus import RedisBus, open_redis_bus
from stagecast.adapters.redis.state import Keys
from stagecast.domain.bus import BusLimits
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.testing.actors import Producer
from stagecast.entrypoints.wiring import CODEC
from tests.faults.crowd import EventSource
from tests.faults.proxy import Proxy
from tests.faults.writing import writing
from tests.servers import RedisServer
from tests.sse.browser import request, stage_path
from tests.sse.eventstream import types
from tests.sse.serving import Served, served
from tests.waiting import eventually

SECONDS = 30.0
PATIENT = BusLimits(log_length=50, lease=60.0)


@asynccontextmanager
async def edge_and_bus(url: str, limits: BusLimits) -> AsyncIterator[tuple[Served, RedisBus]]:
    """A server that keeps nothing of a project that nobody watches, and a bus to publish on."""
    of_server, bus = (open_redis_bus(url, CODEC, limits) for _ in range(2))
    with served(create_app(of_server, settings=EdgeSettings(linger=0.0))) as server:
        yield server, bus
        await bus.aclose()
        asyncio.run_coroutine_threadsafe(of_server.aclose(), server.loop).result(SECONDS)


@pytest.fixture
def producer(project: str) -> Producer:
    return Producer(Topic(project, "rewrite"))


async def is_unwatched(server: Served, project: str) -> None:
    """Wait until the server has forgotten a project."""
    hub = server.app.state.edge._hubs[server.loop]  # type: ignore[attr-defined]
    await eventually(lambda: project not in hub.channels, SECONDS)


@pytest.mark.parametrize("query", ["", "delta=1"], ids=["whole", "delta"])
async def test_a_connection_that_is_cut_again_and_again(any_redis: RedisServer, project: str, query: str) -> None:
    """R41: thirty cuts during a stream of tokens: the union of all that came has each token once, in order."""
    async with edge_and_bus(any_redis.url, PATIENT) as (server, _):
        async with AsyncExitStack() as stack:
            proxy = stack.enter_context(Proxy(server.port))
            viewer = EventSource(proxy.port, stage_path(project, query=query), retry=0.01)
            async with writing(any_redis.url, [project]) as written:
                following = asyncio.create_task(viewer.follow())
                await eventually(lambda: viewer.is_open and viewer.last_event_id, SECONDS)
                for number in range(30):
                    await written.goes_on(1)
                    opened = viewer.opened
                    assert proxy.cut(reset=number % 2 == 0) == 1
                    await eventually(lambda before=opened: viewer.opened > before, SECONDS)  # type: ignore[misc]
                await written.goes_on(1)
            await asyncio.wait_for(following, SECONDS)
        tokens = [event for event in viewer.events if event.message["type"] == "token"]
        assert "".join(event.message["content"] for event in tokens) == viewer.text == written.text(project)
        positions = [Position.parse(str(event.own_id)) for event in tokens]
        assert all(before < after for before, after in pairwise(positions))
        assert viewer.opened == 31
        assert "reset" not in types(viewer.messages)


async def test_a_client_that_always_sends_the_same_malformed_id(
    any_redis: RedisServer, project: str, producer: Producer
) -> None:
    """R32: it is answered by one stream that stays, not asked to come back: there is no hot loop."""
    async with edge_and_bus(any_redis.url, PATIENT) as (server, bus):
        viewer = EventSource(server.port, stage_path(project), always="garbage", retry=0.0)
        following = asyncio.create_task(viewer.follow())
        for number in range(20):
            await producer.write(bus, f"{number};")
            await eventually(lambda: viewer.text.endswith(f"{number};"), SECONDS)  # noqa: B023
        await producer.send(bus, producer.done())
        await asyncio.wait_for(following, SECONDS)
        assert viewer.asked == 1
        assert viewer.text == "".join(f"{number};" for number in range(20))


async def test_what_was_trimmed_meanwhile_is_announced(
    any_redis: RedisServer, project: str, producer: Producer
) -> None:
    """R37: the log keeps 50 events and 300 were written: the viewer is told of the gap and shown all of the text."""
    async with edge_and_bus(any_redis.url, PATIENT) as (server, bus):
        await producer.write(bus, "begin;")
        async with request(server.port, stage_path(project)) as browser:
            await browser.until_type("token")
            seen = browser.stream.last_event_id
        await is_unwatched(server, project)
        text = "begin;" + "".join([await _written(bus, producer, f"{number};") for number in range(300)])
        async with request(server.port, stage_path(project), {"Last-Event-ID": seen}) as browser:
            messages = await browser.take(3)
        assert types(messages) == ["connected", "reset", "token"]
        assert messages[1]["reason"] == "truncated"
        assert messages[2]["full_text"] == text


async def _written(bus: RedisBus, producer: Producer, token: str) -> str:
    await producer.write(bus, token)
    return token


@pytest.mark.parametrize("is_watching", [True, False], ids=["connected", "comes back"])
async def test_a_deleted_key_is_told_and_ends_the_stream(
    any_redis: RedisServer, project: str, producer: Producer, is_watching: bool
) -> None:
    """R37: where a run's keys vanish and nobody restores them, viewers hear of the loss and then of the end."""
    async with edge_and_bus(any_redis.url, BusLimits(lease=3.0)) as (server, bus):
        await producer.write(bus, "a")
        viewer = EventSource(server.port, stage_path(project))
        following = asyncio.create_task(viewer.follow())
        await eventually(lambda: viewer.text == "a", SECONDS)
        if not is_watching:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await is_unwatched(server, project)
        with any_redis.client() as client:
            assert client.delete(*client.keys(f"{Keys(project).log.rpartition(':')[0]}*")) >= 4
        if not is_watching:
            following = asyncio.create_task(viewer.follow())
        await asyncio.wait_for(following, SECONDS)
        ends = viewer.messages[2:] if is_watching else viewer.messages[3:]
        assert [message.get("reason") for message in ends] == ["epoch", "lost", None]
        assert types(ends) == ["reset", "reset", "stream_end"]


async def test_a_finished_stage_that_has_expired(any_redis: RedisServer, project: str, producer: Producer) -> None:
    """R39: who comes back with its end's id after the keys expired is told that it is over, and is not left waiting."""
    async with edge_and_bus(any_redis.url, BusLimits(lease=1.0, time_to_live=2.0)) as (server, bus):
        await producer.write(bus, "a")
        async with request(server.port, stage_path(project)) as browser:
            await producer.send(bus, producer.done())
            await browser.rest()
            seen = browser.stream.last_event_id
        async with request(server.port, stage_path(project), {"Last-Event-ID": seen}) as browser:
            assert browser.status == 204
        await is_unwatched(server, project)
        with any_redis.client() as client:
            await eventually(lambda: not client.keys(f"*{project}*"), SECONDS)
        async with request(server.port, stage_path(project), {"Last-Event-ID": seen}) as browser:
            messages = await browser.rest()
        assert types(messages) == ["connected", "reset", "reset", "stream_end"]
        assert [message["reason"] for message in messages[1:3]] == ["epoch", "lost"]
