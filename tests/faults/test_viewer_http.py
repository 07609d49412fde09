"""Clients that speak HTTP in old, odd or broken ways, under both of uvicorn's parsers. Written to raw sockets."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.testing.actors import Producer
from stagecast.entrypoints.wiring import CODEC
from tests.sse.browser import project_path, request, stage_path
from tests.sse.eventstream import parsed, types
from tests.sse.serving import Served, served, viewers_of
from tests.waiting import eventually

SECONDS = 20.0
ALL = ["connected", "token", "done", "stream_end"]


@pytest.fixture(scope="module")
def bus() -> MemoryBus:
    return MemoryBus(CODEC, BusLimits())


@pytest.fixture(scope="module", params=["httptools", "h11"])
def parser(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def server(bus: MemoryBus, parser: str) -> Iterator[Served]:
    with served(create_app(bus, settings=EdgeSettings(heartbeat=0.05)), http=parser) as running:
        yield running


@pytest.fixture
def producer(project: str) -> Producer:
    return Producer(Topic(project, "rewrite"))


@pytest.fixture
async def finished(bus: MemoryBus, project: str, producer: Producer) -> str:
    """The path of a stream that is over as soon as it is read."""
    await producer.send(bus, *producer.tokens("ab"), producer.done())
    return stage_path(project, query="replay=latest")


@asynccontextmanager
async def connected(server: Served, data: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on which `data` was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(data)
        yield reader, writer
    finally:
        writer.close()


async def answered(server: Served, data: bytes) -> bytes:
    """All that the server says to `data`; it has to close the connection itself."""
    async with connected(server, data) as (reader, _), asyncio.timeout(SECONDS):
        return await reader.read()


def split(answer: bytes) -> tuple[str, bytes]:
    """The head, in lower case, and the body, without the chunks' borders."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return head.decode().lower(), rest
    body = b""
    while int(size := rest.partition(b"\r\n")[0], 16):
        body += rest[len(size) + 2 :][: int(size, 16)]
        rest = rest[len(size) + int(size, 16) + 4 :]
    return head.decode().lower(), body


@pytest.mark.parametrize("headers", ["", "Host: localhost\r\n", "Connection: keep-alive\r\n"])
async def test_http_1_0(server: Served, parser: str, finished: str, headers: str) -> None:
    """An HTTP/1.0 client, with or without Host, gets the stream, and its end by the end of the connection.

    With httptools uvicorn sends it in chunks nevertheless, which an application cannot change.
    """
    head, body = split(await answered(server, f"GET {finished} HTTP/1.0\r\n{headers}\r\n".encode()))
    assert head.startswith("http/1.1 200 ")
    assert "connection: close" in head
    assert parser == "httptools" or "transfer-encoding" not in head
    assert types([event.message for event in parsed(body).events]) == ALL


async def test_connection_close(server: Served, finished: str) -> None:
    """Who asks for it gets the whole stream, and then the end of the connection."""
    head, body = split(
        await answered(server, f"GET {finished} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    )
    assert "connection: close" in head
    assert types([event.message for event in parsed(body).events]) == ALL


async def test_a_second_request_waits_for_the_end_of_the_first(server: Served, finished: str) -> None:
    """On one connection, also where both come at once: HEAD has no body, the stream its end, then comes the next."""
    asked = [f"HEAD {finished}", f"GET {finished}", "GET /healthz"]
    sent = "".join(f"{line} HTTP/1.1\r\nHost: localhost\r\n\r\n" for line in asked)
    answer = await answered(server, sent[:-2].encode() + b"Connection: close\r\n\r\n")
    first, second, third = answer.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert first.endswith(b"\r\n\r\n")
    assert first.count(b"\r\n\r\n") == 1
    assert types([event.message for event in parsed(split(second)[1]).events]) == ALL
    assert third.endswith(b'{"status":"ok"}')


@pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])
async def test_one_who_has_sent_the_next_request_may_leave(
    server: Served, bus: MemoryBus, project: str, producer: Producer, reset: bool
) -> None:
    """R97: with a request waiting behind a live stream the server reads no more, and yet sees the client go."""
    asked = f"GET {stage_path(project)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    async with connected(server, asked * 2) as (reader, writer):
        await reader.readuntil(b"connected")
        assert len(viewers_of(server, project)) == 1
        if reset:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await eventually(lambda: not viewers_of(server, project), SECONDS)
    await eventually(lambda: not server.server.server_state.tasks, SECONDS)
    await producer.write(bus, "nobody there")


METHODS = ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]


@pytest.mark.parametrize("method", METHODS)
async def test_wrong_methods(server: Served, project: str, method: str) -> None:
    """405 says what is allowed, on each route of a stream, without asking who it is; nobody joins."""
    for path in (stage_path(project), project_path(project)):
        for twin in ("", "stream/"):
            async with request(server.port, path + twin, method=method) as response:
                assert response.status == 405
                assert response.headers["allow"] == "GET, HEAD"
                assert (await response.body())["status"] == 405
    assert not viewers_of(server, project)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),  # the begin of TLS
        b"hello there\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nno header\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"\x00" * 100,
    ],
    ids=["TLS", "words", "no path", "no colon", "SSH", "zeros"],
)
async def test_garbage(server: Served, finished: str, garbage: bytes) -> None:
    """What is no request is answered by 400 and closed; the next client is served."""
    head, _ = split(await answered(server, garbage))
    assert head.startswith("http/1.1 400 ")
    async with request(server.port, finished) as response:
        assert types(await response.rest()) == ALL


async def test_clients_who_never_finish_their_request(
    server: Served, bus: MemoryBus, project: str, producer: Producer
) -> None:
    """They cost a socket each, as uvicorn waits for ever, but no viewer and no task; others are served meanwhile."""
    async with AsyncExitStack() as stack:
        slow = [
            await stack.enter_async_context(connected(server, f"GET {stage_path(project)} HTTP/1.1\r\nA: ".encode()))
            for _ in range(30)
        ]
        for _ in range(20):
            for _, writer in slow:
                writer.write(b"a")
            await asyncio.sleep(0.005)
        async with request(server.port, stage_path(project)) as browser:
            await browser.next()
            for number in range(20):
                await producer.write(bus, f"{number};")
                assert (await browser.next()).message["content"] == f"{number};"
            assert len(viewers_of(server, project)) == 1
            assert len(server.server.server_state.tasks) == 1
            assert len(server.server.server_state.connections) >= 30
    await eventually(lambda: not server.server.server_state.connections, SECONDS)
