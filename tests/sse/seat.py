"""A viewer's frames read in the test's own event loop, without HTTP."""

import asyncio
from collections.abc import Callable
from typing import Any

from stagecast.domain.positions import Position
from stagecast.entrypoints.sse import framing
from stagecast.entrypoints.sse.viewer import Viewer
from tests.sse.eventstream import EventStreamParser, Message

SECONDS = 10.0


class Notice:
    """`stagecast.entrypoints.sse.viewer.Carrier` that wakes who waits for news of `viewer`."""

    def __init__(self, viewer: Viewer) -> None:
        self._news = asyncio.Event()
        viewer.carrier = self

    def carry(self) -> None:
        """There is something to take."""
        self._news.set()

    def cut(self, when: float) -> None:
        """Nobody holds this reader up."""

    async def news(self) -> None:
        """Wait until there may be something to take, or for the end."""
        await self._news.wait()
        self._news.clear()


class Seat(Notice):
    """Reads a viewer's frames, and keeps them."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self.viewer = viewer
        self.stream = EventStreamParser()
        self._seen = 0

    @property
    def messages(self) -> list[Message]:
        return [event.message for event in self.stream.events]

    @property
    def last(self) -> Position:
        """What a browser has seen, by its Last-Event-ID."""
        return framing.seen(self.stream.last_event_id)[0]

    @property
    def back(self) -> dict[str, Any]:
        """How a browser would come back, by its Last-Event-ID."""
        after, is_cleared = framing.seen(self.stream.last_event_id)
        return {"after": after, "is_cleared": is_cleared}

    def take(self) -> list[Message]:
        """The messages of what there is to send now."""
        self.stream.feed(self.viewer.take())
        taken = self.messages[self._seen :]
        self._seen += len(taken)
        return taken

    async def until(self, reached: Callable[[EventStreamParser], object]) -> list[Message]:
        """Read until `reached` is true of the stream; the messages that this took."""
        taken = self.take()
        async with asyncio.timeout(SECONDS):
            while not reached(self.stream):
                assert not self.viewer.over, f"the stream ended after {self.messages[-3:]}"
                await self.news()
                taken += self.take()
        return taken

    async def until_message(self, reached: Callable[[Message], object]) -> list[Message]:
        """Read until `reached` is true of a message that comes now; the messages that this took."""
        seen = self._seen
        return await self.until(lambda stream: any(reached(event.message) for event in stream.events[seen:]))

    async def until_type(self, type_: str) -> list[Message]:
        """Read until a message of that type comes."""
        return await self.until_message(lambda message: message["type"] == type_)

    async def until_text(self, end: str) -> list[Message]:
        """Read until a token comes whose text, or else content, ends with `end`."""
        return await self.until_message(
            lambda message: (
                message["type"] == "token" and (message.get("full_text") or message["content"]).endswith(end)
            )
        )

    async def rest(self) -> list[Message]:
        """The messages to the end of the stream."""
        taken = self.take()
        async with asyncio.timeout(SECONDS):
            while not self.viewer.over:
                await self.news()
                taken += self.take()
        return taken + self.take()
