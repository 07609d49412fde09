"""Reading event streams by httpx, HTTP/2 or HTTP/1.1, as they arrive."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import httpx

from tests.sse.browser import SECONDS
from tests.sse.eventstream import EventStreamParser, Message

EVENT_SOURCE = {"Accept": "text/event-stream"}


class Reading:
    """A response that is read as far as somebody asks."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.stream = EventStreamParser()
        self._chunks = response.aiter_bytes()
        self._seen = 0

    async def next(self) -> Message:
        """The next message that nobody has asked for yet."""
        await self.until(lambda stream: len(stream.events) > self._seen)
        self._seen += 1
        return self.stream.events[self._seen - 1].message

    async def until(self, reached: Callable[[EventStreamParser], object]) -> None:
        """Read until `reached` is true of the stream."""
        async with asyncio.timeout(SECONDS):
            while not reached(self.stream):
                self.stream.feed(await anext(self._chunks))

    async def rest(self) -> list[Message]:
        """The messages to the end of the stream, however it ends."""
        async with asyncio.timeout(SECONDS):
            try:
                async for chunk in self._chunks:
                    self.stream.feed(chunk)
            except httpx.RemoteProtocolError:  # a stream that was cut
                pass
        taken, self._seen = self._seen, len(self.stream.events)
        return [event.message for event in self.stream.events[taken:]]


@asynccontextmanager
async def reading(
    client: httpx.AsyncClient, url: str, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Reading]:
    """What an EventSource would read; the connection is given back at the end of the block."""
    async with client.stream("GET", url, headers={**EVENT_SOURCE, **(headers or {})}) as response:
        yield Reading(response)
