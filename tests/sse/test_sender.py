"""How frames reach a connection: written to it where it is free and can be written to, else sent by a task."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h11
import pytest
from starlette.types import Message

from stagecast.adapters.memory import MemoryBus
from stagecast.entrypoints.sse.hub import Hub
from stagecast.entrypoints.sse.response import EventStream
from stagecast.entrypoints.sse.sender import SLICE
from stagecast.entrypoints.sse.viewer import ViewRequest
from stagecast.entrypoints.testing.actors import Producer
from tests.sse.eventstream import EventStreamParser, parsed
from tests.sse.hubs import STAGE, hub_on, sit
from tests.waiting import eventually


class Wire:
    """A transport as uvicorn's connection has it; what is written to it has left at once."""

    def __init__(self) -> None:
        self.written = b""
        self.waiting = 0
        """Bytes that the client has not taken."""
        self.closing = False

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True

    def get_extra_info(self, _: str) -> None:
        """There is no socket."""


class Cycle:
    """A request and its response, as uvicorn has them."""

    def __init__(self, *, chunked: bool | None = True) -> None:
        self.transport = Wire()
        self.chunked_encoding = chunked
        self.open = asyncio.Event()
        """Set while the client takes what `send` sends."""
        self.open.set()
        self.sent = 0
        self.gone = asyncio.Event()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.open.wait()
        if message["type"] == "http.response.start":
            self.transport.write(b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n")
            return
        self.sent += 1
        if body := message["body"]:
            self.transport.write(b"%x\r\n" % len(body) + body + b"\r\n")
        if not message["more_body"]:
            self.transport.write(b"0\r\n\r\n")
            self.gone.set()

    @property
    def body(self) -> bytes:
        """What a client makes of what it was sent."""
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(self.transport.written or b"HTTP/1.1 100 \r\n\r\n")  # empty would be the end
        data = b""
        while (event := client.next_event()) is not h11.NEED_DATA and not isinstance(event, h11.EndOfMessage):
            data += bytes(event.data) if isinstance(event, h11.Data) else b""
        return data

    @property
    def stream(self) -> EventStreamParser:
        return parsed(self.body)

    @property
    def text(self) -> str:
        """All tokens' text."""
        return "".join(event.message["content"] for event in self.stream.events if event.message["type"] == "token")


@asynccontextmanager
async def watching(hub: Hub, cycle: Cycle) -> AsyncIterator[asyncio.Task[None]]:
    stream = EventStream(await hub.join(ViewRequest(topic=STAGE, delta=True)), stall=30)
    task = asyncio.create_task(stream({"type": "http"}, cycle.receive, cycle.send))
    await eventually(lambda: cycle.stream.events)
    try:
        yield task
    finally:
        cycle.gone.set()
        await asyncio.wait_for(task, 10)


async def until_text(end: str, *cycles: Cycle) -> None:
    await eventually(lambda: all(cycle.text.endswith(end) for cycle in cycles))


@pytest.fixture
async def hub(bus: MemoryBus) -> AsyncIterator[Hub]:
    async with hub_on(bus) as hub:
        yield hub


async def test_both_ways_bring_the_same_bytes(hub: Hub, bus: MemoryBus, writer: Producer) -> None:
    """A free connection is written to, in the coding that its server has begun; any other `send` gets every frame."""
    free, other = Cycle(), Cycle(chunked=None)
    async with watching(hub, free), watching(hub, other):
        for content in "abc":
            await writer.write(bus, content)
            await until_text(content, free, other)
        assert (free.sent, other.sent) == (0, 4)
        await writer.send(bus, writer.done(), release=True)
        await eventually(lambda: free.gone.is_set() and other.gone.is_set())
    assert free.body == other.body
    assert free.text == "abc"
    assert free.transport.written.endswith(b"0\r\n\r\n"), "the end is the server's to send"


async def test_a_free_connection_costs_one_task(hub: Hub, bus: MemoryBus, writer: Producer) -> None:
    """The connection's own, which waits for the client's disconnect."""
    cycles = [Cycle() for _ in range(10)]
    before = len(asyncio.all_tasks())
    async with watching(hub, cycles[0]):
        with_one = len(asyncio.all_tasks())
        async with watching(hub, cycles[1]), watching(hub, cycles[2]):
            await writer.write(bus, "a")
            await eventually(lambda: all(cycle.text == "a" for cycle in cycles[:3]))
            assert len(asyncio.all_tasks()) == with_one + 2
    await eventually(lambda: len(asyncio.all_tasks()) <= before + 2)  # the hub's own: its timer, the subscription


async def test_order_is_kept_where_a_client_is_slow_for_a_while(hub: Hub, bus: MemoryBus, writer: Producer) -> None:
    """What comes while `send` waits comes after it; then the connection is written to again."""
    cycle, quick = Cycle(), Cycle()
    async with watching(hub, cycle), watching(hub, quick):
        cycle.transport.waiting = 1000
        cycle.open.clear()
        for content in "abc":
            await writer.write(bus, content)
            await until_text(content, quick)
        assert cycle.text == ""
        cycle.open.set()
        await eventually(lambda: cycle.text == "abc")
        sent = cycle.sent
        assert sent == 2, "the first, and all that came meanwhile"
        cycle.transport.waiting = 0
        await writer.write(bus, "d")
        await eventually(lambda: cycle.text == "abcd")
        assert cycle.sent == sent


async def test_a_long_text_is_sent_in_slices(hub: Hub, bus: MemoryBus, writer: Producer) -> None:
    """Who takes one slice after another is alive, however long the whole takes."""
    cycle = Cycle()
    async with watching(hub, cycle):
        await writer.write(bus, "x" * (3 * SLICE))
        await eventually(lambda: len(cycle.text) == 3 * SLICE)
        assert cycle.sent == 4


async def test_a_closed_connection_is_left(hub: Hub) -> None:
    """R119: where the server tells nothing more of a client that is gone, the next look does."""
    cycle = Cycle()
    async with watching(hub, cycle) as task:
        cycle.transport.closing = True
        (viewer,) = hub.channels["p"].viewers
        viewer.beat(0)
        await asyncio.wait_for(asyncio.shield(task), 10)
        assert not hub.channels["p"].viewers


async def test_heartbeats_do_not_all_come_at_once(hub: Hub) -> None:
    """Many who came together are not all served in the same moment; nobody waits longer than the interval."""
    now = asyncio.get_running_loop().time()
    due = [(await sit(hub)).viewer.beat_at - now for _ in range(50)]
    assert max(due) - min(due) > hub.settings.heartbeat / 4
    assert all(hub.settings.heartbeat / 2 <= one <= hub.settings.heartbeat + 5 for one in due)
