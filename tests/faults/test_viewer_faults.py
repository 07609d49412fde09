"""Viewers that stop reading, vanish or leave at any moment: nobody else notices, nothing is left, and they may return.

The server is a process of its own on a real Redis.
"""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from attrs import frozen
from starlette.types import Message

from stagecast.adapters.memory import MemoryBus
from stagecast.adapters.redis.bus import RedisBus, open_redis_bus
from stagecast.domain.bus import BusLimits, MessageBus
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import EdgeSettings, create_app, recent
from stagecast.entrypoints.testing.actors import Producer
from stagecast.entrypoints.wiring import CODEC
from tests.faults.crowd import EventSource
from tests.faults.proxy import Proxy
from tests.faults.servers import assert_no_complaint, inspected
from tests.servers import RedisServer, available_redis_kinds, start_redis
from tests.sse.browser import request, stage_path
from tests.sse.serving import served, viewers_of
from tests.sse.test_asgi import Connection
from tests.sse.texts import from_contents
from tests.waiting import eventually

SECONDS = 60.0
PIPELINED = "ASGI callable returned without completing response"
"""What uvicorn says of the first request of a client that had sent a second one and was gone before an answer."""
MB = 1 << 20
PIECE = "x" * 16_000
SMALL = 2048
"""Bytes that the kernel is asked to hold for a viewer who reads nothing."""


@pytest.fixture
async def bus(any_redis: RedisServer) -> AsyncIterator[RedisBus]:
    """The publishers' bus."""
    made = open_redis_bus(any_redis.url, CODEC, BusLimits())
    yield made
    await made.aclose()


@pytest.fixture
def producer(project: str) -> Producer:
    return Producer(Topic(project, "rewrite"))


async def opened(stack: AsyncExitStack, *viewers: EventSource) -> list[asyncio.Task[None]]:
    """Let the viewers follow, and wait until all are there; given up at the end."""
    following = [asyncio.create_task(viewer.follow()) for viewer in viewers]
    stack.push_async_callback(_given_up, following)
    await eventually(lambda: all(viewer.is_open for viewer in viewers), SECONDS)
    return following


async def _given_up(following: list[asyncio.Task[None]]) -> None:
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)


async def write(bus: MessageBus, producer: Producer, size: int) -> str:
    """Write a text of `size` characters, a large token at a time."""
    pieces = [f"{number:06d}{PIECE}" for number in range(size // len(PIECE))]
    for piece in pieces:
        await producer.write(bus, piece)
    return "".join(pieces)


async def test_viewers_who_stop_reading_cost_little_and_catch_up(
    any_redis: RedisServer, bus: RedisBus, producer: Producer, project: str
) -> None:
    """R107: while twenty read nothing the server's memory is bounded and others get all; later they get all too."""
    path = stage_path(project, query="delta=1")
    async with inspected(any_redis.url) as server, AsyncExitStack() as stack:
        frozen_ones = [EventSource(server.port, path, receive_buffer=SMALL) for _ in range(20)]
        lively = [EventSource(server.port, path) for _ in range(2)]
        following = await opened(stack, *frozen_ones)
        ends = await opened(stack, *lively)
        for viewer in frozen_ones:
            viewer.reads.clear()
        before = (await server.census())["memory"]
        text = await write(bus, producer, 12 * MB)
        await producer.send(bus, producer.done(""))
        await asyncio.wait_for(asyncio.gather(*ends), SECONDS)
        assert all(viewer.text == text for viewer in lively)
        now = await server.census()
        assert now["viewers"] == len(frozen_ones), "they are slow, not gone"
        of_the_project = 3 * len(text) + 2 * (recent.EVENT_BYTES + recent.WHOLE_BYTES)
        assert now["memory"] - before < of_the_project + len(frozen_ones) * MB // 4
        frozen_ones[0].reads.set()
        await asyncio.wait_for(following[0], SECONDS)
        assert frozen_ones[0].opened == 1
        assert frozen_ones[0].text == text
        assert "truncated" in [message.get("reason") for message in frozen_ones[0].messages]


@frozen
class Silence:
    """How a viewer comes to take nothing more."""

    characters: int
    """That are written meanwhile: none, few (they fit into the kernel's buffers), or many."""
    is_cut_off: bool = False
    """By a network that drops everything; else it just does not read."""
    heartbeat: float = 1.0


@pytest.mark.parametrize(
    "silence",
    [
        pytest.param(Silence(8 * MB), id="much to read"),
        pytest.param(Silence(200_000), id="little to read"),
        pytest.param(Silence(0, heartbeat=0.002), id="heartbeats alone"),
        pytest.param(Silence(400_000, is_cut_off=True), id="half-open"),
    ],
)
async def test_a_viewer_who_takes_nothing_is_dropped_and_comes_back(
    any_redis: RedisServer, bus: RedisBus, producer: Producer, project: str, silence: Silence
) -> None:
    """R105, R107, R132: after `stall` seconds its connection is closed, all is freed, and it loses nothing by it."""
    settings = {"STAGECAST_SSE_STALL": "1", "STAGECAST_SSE_LINGER": "0.1"}
    settings["STAGECAST_SSE_HEARTBEAT"] = str(silence.heartbeat)
    async with inspected(any_redis.url, settings) as server, AsyncExitStack() as stack:
        proxy = stack.enter_context(Proxy(server.port))
        await server.rests()
        port = proxy.port if silence.is_cut_off else server.port
        viewer = EventSource(port, stage_path(project, query="delta=1"), receive_buffer=SMALL)
        await producer.write(bus, "begin ")
        (following,) = await opened(stack, viewer)
        await eventually(lambda: viewer.last_event_id)
        if silence.is_cut_off:
            proxy.black_hole()
        else:
            viewer.reads.clear()
        text = "begin " + await write(bus, producer, silence.characters)
        await server.holds_nothing_more()
        await producer.write(bus, "end")
        await producer.send(bus, producer.done(""))
        proxy.heal()
        viewer.receive_buffer = None
        viewer.reads.set()
        await asyncio.wait_for(following, SECONDS)
        assert viewer.text == text + "end"
        assert viewer.opened == 2
        assert_no_complaint(server.program)


async def test_where_the_kernel_cannot_drop_it_the_server_does(
    producer: Producer, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R132: also without a time limit of the kernel a frozen viewer's connection is closed, whatever it has to take."""
    monkeypatch.setattr("stagecast.entrypoints.sse.connection.Connection.bound", lambda *_: None)
    bus = MemoryBus(CODEC)
    with served(create_app(bus, settings=EdgeSettings(stall=0.5))) as server:
        async with request(server.port, stage_path(project, query="delta=1"), receive_buffer=SMALL):
            await write(bus, producer, 8 * MB)
            await eventually(lambda: not viewers_of(server, project), SECONDS)
            await eventually(lambda: not server.server.server_state.connections, SECONDS)


class Slow(Connection):
    """Takes two megabytes a second."""

    async def _send(self, message: Message) -> None:
        await asyncio.sleep(len(message.get("body", b"")) / (2 * MB))
        await super()._send(message)


async def test_a_viewer_who_takes_little_by_little_is_kept(producer: Producer) -> None:
    """R107: a long text may take longer than `stall`: who takes some of it is not frozen, and comes to its end."""
    bus = MemoryBus(CODEC)
    app = create_app(bus, settings=EdgeSettings(stall=1.0))
    for _ in range(8):
        await producer.write(bus, "x" * (MB // 2))
    await producer.send(bus, producer.done(""))
    viewer = Slow(app, stage_path(producer.topic.project))
    await asyncio.wait_for(viewer.task, SECONDS)
    assert viewer.over
    assert from_contents([event.message for event in viewer.stream.events]) == "x" * 4 * MB
    await app.state.edge.aclose()


def left(connection: socket.socket, *, reset: bool) -> None:
    """Close by RST or by FIN."""
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@frozen
class Leaving:
    """When a viewer leaves."""

    sends: float = 1.0
    """How much of its request: a part, all, or twice (it pipelines)."""
    reads: bool = False
    """Whether it stays for the first byte of the answer."""
    resets: bool = False


MOMENTS = [
    *(Leaving(sends, reads, resets) for sends in (1.0, 2.0) for reads in (False, True) for resets in (False, True)),
    *(Leaving(sends, resets=resets) for sends in (0.0, 0.5) for resets in (False, True)),
]


async def come_and_leave(port: int, path: str, leaving: Leaving) -> None:
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    connection.setblocking(False)
    await loop.sock_connect(connection, ("127.0.0.1", port))
    asked = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode() * 2
    await loop.sock_sendall(connection, asked[: int(leaving.sends * len(asked) / 2)])
    if leaving.reads:
        assert (await asyncio.wait_for(loop.sock_recv(connection, 1), SECONDS)) == b"H"
    left(connection, reset=leaving.resets)


async def test_a_thousand_come_and_leave() -> None:
    """R90, R96, R97: at any moment of a short task: connections don't grow in number, afterwards nothing is left."""
    dice = random.Random(5)
    settings = {"STAGECAST_SSE_LINGER": "0.1", "STAGECAST_SSE_HEARTBEAT": "0.2"}
    settings["STAGECAST_LIMITS_LEASE"] = "0.2"  # it looks at its projects often, also while they are left
    with start_redis(available_redis_kinds()[0], extra_args=["--maxclients", "20"]) as redis, redis.client() as client:
        async with inspected(redis.url, settings) as server, AsyncExitStack() as stack:
            bus = open_redis_bus(redis.url, CODEC, BusLimits())
            stack.push_async_callback(bus.aclose)
            most = 0

            async def cycle(number: int) -> None:
                nonlocal most
                producer, path = Producer(Topic(f"p{number}", "rewrite")), stage_path(f"p{number}")
                task = asyncio.create_task(
                    producer.send(bus, producer.update(), *producer.tokens("ab"), producer.done())
                )
                if number % 3:
                    await come_and_leave(server.port, path, dice.choice(MOMENTS))
                else:
                    viewer = EventSource(server.port, path)
                    await asyncio.wait_for(viewer.follow(), SECONDS)
                    assert viewer.text == "ab"
                await task
                most = max(most, sum(one["name"] == "stagecast" for one in client.client_list()))

            await asyncio.gather(*(cycle(number) for number in range(10)))
            await server.rests()
            for start in range(10, 1000, 20):
                await asyncio.gather(*(cycle(number) for number in range(start, min(start + 20, 1000))))
            await server.holds_nothing_more()
            await eventually(lambda: not client.pubsub_channels("*"), SECONDS)
            assert 0 < most <= 6, "three of the server and three of the publishers, however many viewers"
            assert client.info("stats")["rejected_connections"] == 0
            assert_no_complaint(server.program, but=PIPELINED)
