"""Clients who send slowly, too much or nothing, before the protocol that `stagecast serve` gives to uvicorn."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.sse.arrival import Bounds, protocol
from stagecast.entrypoints.testing.actors import Producer
from stagecast.entrypoints.wiring import CODEC
from tests.sse.browser import request, stage_path
from tests.sse.programs import SERVE, running
from tests.sse.serving import Served, served
from tests.waiting import eventually

SECONDS = 20.0
PATH = stage_path("p")
HEAD = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n".encode()
WHOLE = HEAD + b"\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
CANCEL = b"POST /api/v1/projects/p/stages/s/cancel HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def bus() -> MemoryBus:
    return MemoryBus(CODEC)


def prompt(bus: MemoryBus, seconds: float) -> Iterator[Served]:
    settings = EdgeSettings(request_seconds=seconds, url_bytes=2000, header_bytes=4000, patience=0.5)
    app = create_app(bus, settings=settings)
    bounded = protocol(Bounds(settings, app.state.edge.refusals))
    with served(app, http=bounded, timeout_keep_alive=1) as running:
        yield running


@pytest.fixture(scope="module")
def server(bus: MemoryBus) -> Iterator[Served]:
    """One that waits for half a second."""
    yield from prompt(bus, 0.5)


@pytest.fixture(scope="module")
def patient(bus: MemoryBus) -> Iterator[Served]:
    """One that waits longer than any test."""
    yield from prompt(bus, 1000)


@asynccontextmanager
async def connected(server: Served, data: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on which `data` was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(data)
        async with asyncio.timeout(SECONDS):
            yield reader, writer
    finally:
        writer.close()


async def everything(reader: asyncio.StreamReader) -> bytes:
    """All that the server says until it closes the connection, however it does."""
    said = b""
    try:
        while data := await reader.read(1 << 16):
            said += data
    except ConnectionError:
        pass
    return said


def counted(server: Served, status: int, reason: str) -> int:
    return int(server.app.state.edge.refusals.counts[status, reason])  # type: ignore[attr-defined]


SLOW = {
    "half a line": (b"GET /api", b"x"),
    "half a header": (HEAD + b"X-Slow: ", b"a"),
    "header after header": (HEAD, b"a: b\r\n"),
    "a second request": (HEALTH + HEAD, b"a"),
    "a body": (CANCEL + b"Content-Length: 1000\r\n\r\n", b"b"),
}


@pytest.mark.parametrize(("begin", "more"), SLOW.values(), ids=SLOW)
async def test_slow_loris(server: Served, begin: bytes, more: bytes) -> None:
    """Who sends a request byte by byte loses the connection in time, told by 408 where nothing else was."""
    before = counted(server, 408, "slow")
    async with connected(server, begin) as (reader, writer):

        async def trickle() -> None:
            while True:
                writer.write(more)
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        said = await everything(reader)
        trickling.cancel()
    assert counted(server, 408, "slow") == before + 1
    assert begin.startswith(CANCEL) or b"HTTP/1.1 408 Request Timeout\r\n" in said
    assert not said.startswith(b"HTTP/1.1 408") or b"\r\ncontent-type: application/problem+json\r\n" in said
    async with request(server.port, PATH) as response:
        assert response.status == 200


@pytest.mark.parametrize("begin", [b"", HEALTH], ids=["at first", "after a request"])
@pytest.mark.parametrize("more", [b"", b"\r\n"], ids=["nothing", "empty lines"])
async def test_idle_connections(server: Served, begin: bytes, more: bytes) -> None:
    """A connection on which no request begins is closed without a word, though empty lines come on it."""
    before = dict(server.app.state.edge.refusals.counts)  # type: ignore[attr-defined]
    async with connected(server, begin) as (reader, writer):
        if begin:
            assert b"200 OK" in await reader.readuntil(b'{"status":"ok"}')

        async def trickle() -> None:
            while more:
                writer.write(more)
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        assert await everything(reader) == b""
        trickling.cancel()
    assert dict(server.app.state.edge.refusals.counts) == before  # type: ignore[attr-defined]


async def test_streams_outlive_the_time_of_their_request(server: Served, bus: MemoryBus) -> None:
    """The time is for requests alone: a stream lives on, also where others came before it or wait behind it."""
    producer = Producer(Topic("q", "rewrite"))
    ask = f"GET {stage_path('q')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with (
        connected(server, ask) as (one, _),
        connected(server, HEALTH + ask) as (second, _),
        connected(server, ask + HEALTH + HEAD) as (behind, _),
    ):
        for reader in one, second, behind:
            await reader.readuntil(b"connected")
        await asyncio.sleep(1.2 - (loop.time() - begun))  # more than twice the time
        await producer.write(bus, "still there")
        for reader in one, second, behind:
            await reader.readuntil(b"still there")


async def test_the_time_begins_anew_with_each_request(server: Served) -> None:
    """A connection that is used again and again lives longer than one request may take."""
    async with connected(server, b"") as (reader, writer):
        for _ in range(6):
            writer.write(HEALTH)
            assert b"200 OK" in await reader.readuntil(b'{"status":"ok"}')
            await asyncio.sleep(0.2)


async def test_a_request_in_pieces_is_answered(patient: Served) -> None:
    """Slow within the time is not too slow: byte by byte, several on one connection."""
    async with connected(patient, b"") as (reader, writer):
        for _ in range(3):
            for byte in HEALTH:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert b"200 OK" in await reader.readuntil(b'{"status":"ok"}')


LONG: dict[str, tuple[Callable[[int], bytes], int, str]] = {
    "path": (lambda size: b"GET /" + b"a" * size, 414, "url"),
    "query": (lambda size: b"GET /?" + b"a" * size, 414, "url"),
    "name": (lambda size: HEAD + b"a" * size, 431, "headers"),
    "value": (lambda size: HEAD + b"Last-Event-ID: " + b"a" * size, 431, "headers"),
    "many": (lambda size: HEAD + b"a: b\r\n" * (size // 6), 431, "headers"),
}


@pytest.mark.parametrize(("made", "status", "reason"), LONG.values(), ids=LONG)
async def test_heads_that_never_end(patient: Served, made: Callable[[int], bytes], status: int, reason: str) -> None:
    """A head that has grown too long is answered before it is whole; a shorter one is waited for."""
    before = counted(patient, status, reason)
    async with connected(patient, made(7000)) as (reader, _):
        said = await everything(reader)
    assert said.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nconnection: close\r\n" in said
    assert b"\r\ncontent-type: application/problem+json\r\n" in said
    assert counted(patient, status, reason) == before + 1
    async with connected(patient, made(1000)) as (reader, writer):
        end = b"z: b\r\n\r\n" if reason == "headers" else b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
        writer.write(end)
        assert int((await reader.readline()).split()[1]) in {200, 404}


async def test_garbage_is_counted(patient: Served) -> None:
    """What is no HTTP gets 400 as a problem, and is counted."""
    before = counted(patient, 400, "http")
    async with connected(patient, b"SSH-2.0-OpenSSH_9.2\r\n\r\n") as (reader, _):
        said = await everything(reader)
    assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert said.endswith(b'"status":400,"detail":"this is no HTTP request"}')
    assert counted(patient, 400, "http") == before + 1


async def test_nothing_is_left_of_them(server: Served) -> None:
    """Two hundred at once, refused or gone before: no connection is kept, and no timer of those who have left."""
    before = counted(server, 408, "slow")
    async with asyncio.TaskGroup() as group:

        async def one(number: int) -> None:
            async with connected(server, HEAD) as (reader, _):
                if number % 2:
                    await everything(reader)

        for number in range(200):
            group.create_task(one(number))
    await eventually(lambda: not server.server.server_state.connections, SECONDS)
    await asyncio.sleep(0.6)  # as long as a timer of the last who came
    assert counted(server, 408, "slow") == before + 100


async def test_the_command_serves_like_that() -> None:
    """`stagecast serve` has these bounds, its log no line of uvicorn's about requests, and none of it a query."""
    environment = {"STAGECAST_BUS": "memory://", "STAGECAST_SSE_REQUEST_SECONDS": "0.5"}
    with running(SERVE, environment) as program:
        port = await asyncio.to_thread(lambda: program.port)
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HEAD)
            assert (await everything(reader)).startswith(b"HTTP/1.1 408 ")
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"garbage\r\n\r\n")
            assert (await everything(reader)).startswith(b"HTTP/1.1 400 ")
            writer.close()
        async with request(port, stage_path("p", query="ticket=very-secret")) as browser:
            assert (await browser.next()).message["type"] == "connected"
        async with request(port, f"{stage_path('a%20b')}?token=very-secret") as response:
            assert response.status == 400
        program.process.terminate()
        await asyncio.to_thread(program.exit_code, 20)
        output = program.output
    assert "a request is refused (408): the request did not come in time" in output
    assert "Invalid HTTP request" not in output
    assert "very-secret" not in output
    assert "HTTP/1.1" not in output
