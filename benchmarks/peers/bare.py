"""(f) The limit: a bare asyncio server that writes to each connection the bytes that stagecast writes, and no more.

It takes them ready-made from Redis, through a protocol of its own that parses nothing but the channel's messages.
"""

import asyncio
import json
import sys
import time
from collections import defaultdict
from typing import cast

import hiredis
import redis
import uvloop

from .sources import Paced, Place

PREFIX = b"bare:"
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache, no-transform\r\n"
    b"x-accel-buffering: no\r\ntransfer-encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def frame(topic: str, content: str, n: int) -> bytes:
    """As long as stagecast's frame of a token with `?delta=1`."""
    fields = {
        "type": "token",
        "content": content,
        "offset": n * len(content),
        "stage": "s",
        "project_id": topic,
        "timestamp": time.time(),
        "id": f"1732526700000000-{n}",
    }
    data = json.dumps(fields, separators=(",", ":")).encode()
    return b"id: 1732526700000000-%d\ndata: %b\n\n" % (n, data)


def open_source(place: Place) -> Paced:
    client = redis.Redis.from_url(place.redis_url)
    counts: defaultdict[str, int] = defaultdict(int)

    def publish(topic: str, content: str) -> None:
        counts[topic] += 1
        client.publish(PREFIX.decode() + topic, chunk(frame(topic, content, counts[topic])))

    return Paced(publish)


_viewers: defaultdict[bytes, set[asyncio.Transport]] = defaultdict(set)


class Viewer(asyncio.Protocol):
    """Reads one request and writes whatever its topic's channel has."""

    __slots__ = ("_topic", "_transport")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._topic = b""

    def data_received(self, data: bytes) -> None:
        self._topic = data.split(b" ", 2)[1][1:]
        _viewers[self._topic].add(self._transport)
        self._transport.write(HEAD + chunk(b'data: {"type":"connected"}\n\n'))

    def connection_lost(self, exc: Exception | None) -> None:
        _viewers[self._topic].discard(self._transport)


class Channels(asyncio.Protocol):
    """The connection to Redis."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(b"PSUBSCRIBE " + PREFIX + b"*\r\n")

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (found := self._reader.gets()) is not False:
            if found[0] == b"pmessage":
                data = found[3]
                for transport in _viewers.get(found[2][len(PREFIX) :], ()):
                    transport.write(data)


async def serve(port: int, redis_port: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_connection(Channels, "127.0.0.1", redis_port)
    server = await loop.create_server(Viewer, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
