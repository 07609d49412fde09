"""An HTTP client that reads event streams from a raw socket, at the speed that a test wants."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests.sse.eventstream import Dispatched, EventStreamParser, Message

SECONDS = 15.0
"""The deadline of every wait."""

API = "/api/v1/sse/projects"


class Response:
    """One response: its head is read, its body as far as somebody asks."""

    def __init__(self, reader: asyncio.StreamReader, status: int, headers: list[tuple[str, str]]) -> None:
        self.status = status
        self.headers = dict(headers)
        self.header_list = headers
        self.stream = EventStreamParser()
        self.ended = False
        """Whether the body came to its proper end; a torn connection raises IncompleteReadError."""
        self._reader = reader
        self._seen = 0

    @property
    def messages(self) -> list[Message]:
        """What was dispatched so far."""
        return [event.message for event in self.stream.events]

    async def next(self) -> Dispatched:
        """The next event that nobody has asked for yet."""
        while len(self.stream.events) <= self._seen:
            assert await self.read_more(), f"the stream ended after {self.messages[-3:]}"
        self._seen += 1
        return self.stream.events[self._seen - 1]

    async def take(self, count: int) -> list[Message]:
        """The messages of the next events."""
        return [(await self.next()).message for _ in range(count)]

    async def until(self, reached: Callable[[Message], object]) -> list[Message]:
        """The messages up to the first for which `reached` is true, that one included."""
        taken = []
        while True:
            taken.append((await self.next()).message)
            if reached(taken[-1]):
                return taken

    async def until_type(self, *types: str) -> list[Message]:
        """The messages up to the first of one of `types`."""
        return await self.until(lambda message: message["type"] in types)

    async def until_stream(self, reached: Callable[[EventStreamParser], object]) -> None:
        """Read until `reached` is true of the stream, blocks and comments included."""
        while not reached(self.stream):
            assert await self.read_more(), "the stream ended"

    async def rest(self) -> list[Message]:
        """The messages to the end of the stream."""
        while await self.read_more():
            pass
        taken, self._seen = self._seen, len(self.stream.events)
        return self.messages[taken:]

    async def body(self) -> Any:
        """The JSON of a body that is no stream."""
        while await self.read_more():
            pass
        return json.loads(bytes(self.stream.raw))

    async def read_more(self) -> bool:
        """Read a chunk; False at the end of the body."""
        if self.ended:
            return False
        async with asyncio.timeout(SECONDS):
            if self.headers.get("transfer-encoding") == "chunked":
                size = int(await self._reader.readline(), 16)
                data = await self._reader.readexactly(size)
                await self._reader.readexactly(2)
            else:
                data = await self._reader.readexactly(int(self.headers.get("content-length", "0")))
                size = 0
        if size:
            self.stream.feed(data)
        else:
            self.ended = True
            self.stream.raw += data
        return not self.ended


@asynccontextmanager
async def request(
    port: int,
    path: str,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    receive_buffer: int | None = None,
) -> AsyncIterator[Response]:
    """A response whose connection is closed at the end of the block. With `receive_buffer` bytes a slow client."""
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", port))
    limit = 1 << 20 if receive_buffer is None else receive_buffer
    reader, writer = await asyncio.open_connection(sock=connection, limit=limit)
    try:
        sent = {"Host": "localhost", **(headers or {})}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode("utf-8"))
        async with asyncio.timeout(SECONDS):
            status = int((await reader.readline()).split()[1])
            found = []
            while line := (await reader.readline()).decode("latin-1").rstrip("\r\n"):
                name, _, value = line.partition(":")
                found.append((name.lower(), value.strip()))
        response = Response(reader, status, found)
        if method == "HEAD" or status == 204:
            response.ended = True
        yield response
    finally:
        writer.close()


def stage_path(project: str, stage: str = "rewrite", query: str = "") -> str:
    return f"{API}/{project}/stages/{stage}/{query and '?' + query}"


def project_path(project: str, query: str = "") -> str:
    return f"{API}/{project}/{query and '?' + query}"
