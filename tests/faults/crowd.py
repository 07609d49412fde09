"""EventSources in numbers: they come back with their last id as browsers do. Also a program for hundreds of them.

`python -m tests.faults.crowd PORT COUNT PATH...` spreads them over the paths and prints a line of JSON whenever
something changes: how many are `open`, how often one was `opened`; at the end of the last, its `viewers`.
"""

import asyncio
import hashlib
import json
import socket
import sys
from collections.abc import Sequence

import uvloop
from attrs import define, field

from tests.sse.eventstream import Dispatched, EventStreamParser, Message
from tests.sse.texts import from_contents, from_deltas

RETRY = 0.3
"""Seconds until an EventSource comes back that was told nothing else; Chromium takes 3."""
ENDS = {"stream_end"}


class Dead(Exception):
    """An answer after which a browser's EventSource never comes back."""


@define(eq=False)
class EventSource:
    """Follows one stream to its end, however often the connection is lost."""

    port: int
    path: str
    always: str | None = None
    """Sent as Last-Event-ID on every connection, whatever the stream says."""
    receive_buffer: int | None = None
    """Bytes that the kernel is asked to hold for a viewer that shall be slow."""
    reads: asyncio.Event = field(factory=asyncio.Event)
    """Cleared while the viewer takes nothing."""
    opened: int = 0
    """Connections on which a message came."""
    asked: int = 0
    """Requests that were sent."""
    is_open: bool = False
    over: bool = False
    events: list[Dispatched] = field(factory=list)
    last_event_id: str = ""
    retry: float = RETRY
    retries: list[int] = field(factory=list)
    """What servers told of the time to come back, in milliseconds."""

    def __attrs_post_init__(self) -> None:
        self.reads.set()

    @property
    def messages(self) -> list[Message]:
        return [event.message for event in self.events]

    @property
    def text(self) -> str:
        """As token messages alone make it."""
        return (from_deltas if "delta=1" in self.path else from_contents)(self.messages)

    async def follow(self) -> None:
        """Connect, and again after each loss, until the stream ends. Raises Dead."""
        while True:
            try:
                await self._connect()
            except (OSError, EOFError):
                pass  # nobody listens, or the connection was torn
            finally:
                self.is_open = False
            if self.over:
                return
            await asyncio.sleep(self.retry)

    async def _connect(self) -> None:
        connection = socket.socket()
        if self.receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        except OSError:
            connection.close()
            raise
        reader, writer = await asyncio.open_connection(
            sock=connection, limit=1 << 20 if self.receive_buffer is None else 512
        )
        try:
            self.asked += 1
            last = self.last_event_id if self.always is None else self.always
            lines = [f"GET {self.path} HTTP/1.1", "Host: localhost", "Accept: text/event-stream"]
            lines += [f"Last-Event-ID: {last}"] if last else []
            writer.write("\r\n".join([*lines, "", ""]).encode())
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            if status == 204:
                self.over = True
            elif status == 200:
                await self._read(reader)
            else:
                raise Dead(head.decode())
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        parser, body, seen = EventStreamParser(last_event_id=self.last_event_id), bytearray(), 0
        while not self.over and (data := await reader.read(1 << 16)):
            await self.reads.wait()
            body += data
            while (end := body.find(b"\r\n")) >= 0:
                size = int(body[:end], 16)
                if len(body) < end + size + 4:
                    break
                parser.feed(bytes(body[end + 2 : end + 2 + size]))
                del body[: end + size + 4]
            if parser.events and not self.is_open:
                self.is_open = True
                self.opened += 1
            self.events += parser.events[seen:]
            self.over = any(event.message["type"] in ENDS for event in parser.events[seen:])
            seen = len(parser.events)
            self.last_event_id = parser.last_event_id
            if parser.retry is not None:
                self.retry = parser.retry / 1000
        if parser.retry is not None:
            self.retries.append(parser.retry)


def told(viewer: EventSource) -> dict[str, object]:
    """What the test wants to know of a viewer at its end."""
    try:
        text = viewer.text
    except AssertionError as error:
        text = f"not what the tokens make: {error}"
    return {
        "path": viewer.path,
        "digest": digest(text),
        "opened": viewer.opened,
        "retries": viewer.retries,
        "resets": sum(message["type"] == "reset" for message in viewer.messages),
    }


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def crowd(port: int, count: int, paths: Sequence[str]) -> None:
    viewers = [EventSource(port, paths[number % len(paths)]) for number in range(count)]
    before = None
    async with asyncio.TaskGroup() as group:
        following = {group.create_task(viewer.follow()) for viewer in viewers}
        while following:
            _, following = await asyncio.wait(following, timeout=0.05)
            now = {"open": sum(one.is_open for one in viewers), "opened": sum(one.opened for one in viewers)}
            if now != before:
                print(json.dumps(now), flush=True)
                before = now
    print(json.dumps({"viewers": [told(viewer) for viewer in viewers]}), flush=True)


if __name__ == "__main__":
    uvloop.run(crowd(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
