"""The viewers: thousands of connections in one event loop, which count tokens and the time that each took.

A token's content is `@`, the publisher's monotonic clock in nanoseconds in 19 digits, `@`, and perhaps padding. One
machine has one such clock, so the difference to the reader's is the time from the call to the viewer.
"""

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import cast

CONNECTING = 200
"""Connections that are opened at once."""
RETRY_SECONDS = 1.0
"""After which a viewer whose connection has ended comes back."""
GREETING_SECONDS = 10.0
"""That those get until the server has answered all of them."""
_CONTENT = re.compile(rb'"content": ?"(@[^"\\]+)')
_STAMP = re.compile(rb"@(\d{19})@")
_STAMP_LENGTH = 21


class Viewer(asyncio.Protocol):
    """One connection. It counts each token of its topic once, whatever is sent again."""

    __slots__ = ("_crowd", "_is_greeted", "_path", "_rest", "last", "port", "received", "topic", "transport")

    def __init__(self, crowd: "Crowd", topic: str, port: int, path: str) -> None:
        self.topic, self.port = topic, port
        self.received = 0
        """Tokens since the crowd's `begin`."""
        self.last = 0
        """The stamp of the newest token; a topic's stamps grow."""
        self.transport: asyncio.Transport | None = None
        self._crowd, self._path = crowd, path
        self._rest = b""
        self._is_greeted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._rest = b""
        host = self._crowd.host
        self.transport.write(f"GET {self._path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        crowd, now = self._crowd, time.monotonic_ns()
        crowd.bytes += len(data)
        if not self._is_greeted:
            self._is_greeted = True
            crowd.greeted += 1
        if self._rest:
            data = self._rest + data
        end = 0
        for found in _CONTENT.finditer(data):
            end = found.end()
            content = found[1]
            stamps = [content[1:20]] if len(content) == _STAMP_LENGTH else _STAMP.findall(content)
            for digits in stamps:
                if (stamp := int(digits)) > self.last:
                    if not self.last:
                        crowd.reached += 1
                    self.last = stamp
                    if stamp >= crowd.since:
                        self.received += 1
                        crowd.received += 1
                        crowd.delays.append(now - stamp)
                        crowd.newest = now
        self._rest = b"" if data.endswith(b"\n") else data[max(end, data.rfind(b"\n") + 1) :]

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.come_back(self)


class Crowd:
    """Viewers of one server, or of several in turn. `async with` closes their connections."""

    def __init__(self, host: str, *ports: int, is_greeted: bool = True) -> None:
        self.host, self.ports, self.is_greeted = host, ports, is_greeted
        self.greeted = 0
        self._is_over = False
        self._returning: list[asyncio.Task[None]] = []
        self.viewers: list[Viewer] = []
        self.delays: list[int] = []
        """Nanoseconds from the publisher's call to the viewer, one for each delivery since `begin`."""
        self.since = 1 << 62
        self.newest = 0
        self.received = self.reached = self.lost = self.bytes = 0

    async def __aenter__(self) -> "Crowd":
        return self

    async def __aexit__(self, *error: object) -> None:
        self._is_over = True
        for viewer in self.viewers:
            if viewer.transport is not None:
                viewer.transport.abort()
        await asyncio.sleep(0)

    async def connect(self, count: int, topics: list[str], path_of: Callable[[str], str]) -> None:
        """Open `count` more connections, spread over the topics in turn; some at once, the next when these stand."""
        loop = asyncio.get_running_loop()
        first = len(self.viewers)
        for start in range(first, first + count, CONNECTING):
            coming = []
            for n in range(start, min(start + CONNECTING, first + count)):
                topic = topics[n % len(topics)]
                port = self.ports[n // len(topics) % len(self.ports)]
                viewer = Viewer(self, topic, port, path_of(topic))
                self.viewers.append(viewer)
                coming.append(loop.create_connection(_giving(viewer), self.host, port))
            await asyncio.gather(*coming)
            if self.is_greeted:
                await self.until(lambda: self.greeted >= len(self.viewers), GREETING_SECONDS)

    def come_back(self, viewer: Viewer) -> None:
        """Connect a viewer again who was sent away, as a browser does."""
        self.lost += 1
        if not self._is_over:
            loop = asyncio.get_running_loop()
            loop.call_later(RETRY_SECONDS, lambda: self._returning.append(loop.create_task(self._again(viewer))))

    async def _again(self, viewer: Viewer) -> None:
        with suppress(OSError):
            if not self._is_over:
                await asyncio.get_running_loop().create_connection(_giving(viewer), self.host, viewer.port)

    def begin(self) -> None:
        """Count what is published from now on."""
        self.since = time.monotonic_ns()
        self.delays.clear()
        self.received = self.bytes = 0
        self.newest = self.since
        for viewer in self.viewers:
            viewer.received = 0

    async def until(self, reached: Callable[[], bool], seconds: float, pause: float = 0.02) -> bool:
        """Wait until `reached`, at most `seconds`."""
        deadline = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(pause)
        return True

    def milliseconds(self, *percents: float, of: Iterable[int] | None = None) -> list[float]:
        """The percentiles of the delays."""
        ordered = sorted(self.delays if of is None else of)
        if not ordered:
            return [float("nan")] * len(percents)
        return [ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)] / 1e6 for percent in percents]


def _giving(viewer: Viewer) -> Callable[[], Viewer]:
    return lambda: viewer
