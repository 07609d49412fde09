"""A viewer's frames as an ASGI response. Knows no project and no event; frames go to `send` as they are, uncopied."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress

from starlette.types import Message, Receive, Scope, Send

from . import framing
from .connection import Connection
from .hub import LAST_SEND, RETRY_MILLISECONDS
from .viewer import Viewer

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
"""Of every answer that is an event stream. No hop-by-hop header: those are the server's business."""

SLICE = 1 << 16
"""Bytes that are sent at once: who takes a slice is alive, though all of a long text may take it minutes."""


class EventStream:
    """Sends what `viewer` gets until it ends or the client is gone, then lets it leave.

    The connection's own task sends; one more waits for the client's disconnect, which not every server reports by
    an error of `send`.
    """

    def __init__(self, viewer: Viewer, stall: float) -> None:
        self.raw_headers = list(HEADERS)
        self._viewer = viewer
        self._stall = stall
        """Seconds that the client may take nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        viewer, connection = self._viewer, Connection(send)
        watcher = asyncio.get_running_loop().create_task(_watch(viewer, receive))
        try:
            connection.bound(self._stall)
            async with asyncio.timeout(None) as viewer.timeout:
                await send(_start(self.raw_headers))
                await self._send_frames(send, connection)
        except TimeoutError:  # it has taken nothing for too long, and would not take the end either
            connection.abort()
            await asyncio.sleep(0)  # the server learns of it before it complains of a response without an end
        except OSError:  # the client is gone
            pass
        except RuntimeError:  # uvloop's word for it
            if not connection.is_closed:
                raise
        except asyncio.CancelledError:  # by a server that stops without a signal
            await self._send_away(send, connection)
            raise
        finally:
            watcher.cancel()
            viewer.leave()

    async def _send_frames(self, send: Send, connection: Connection) -> None:
        viewer = self._viewer
        clock = asyncio.get_running_loop().time
        while True:
            if connection.is_closed:
                viewer.leave()
            if data := viewer.take():
                for slice_ in [data] if len(data) <= SLICE else _slices(data):
                    viewer.sending_since = clock()
                    await send({"type": "http.response.body", "body": slice_, "more_body": True})
                viewer.sending_since = None
            elif viewer.over:
                break
            else:
                await viewer.wait()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_away(self, send: Send, connection: Connection) -> None:
        """End the response properly, so that the client comes back at its own time; not where it takes nothing."""
        viewer = self._viewer
        if viewer.gone or viewer.sending_since is not None:
            return
        viewer.finish(framing.retry(random.randint(*RETRY_MILLISECONDS)))  # noqa: S311
        with suppress(Exception):  # the response has not begun, or is over
            async with asyncio.timeout(LAST_SEND):
                await self._send_frames(send, connection)


def _slices(data: bytes) -> Iterator[bytes]:
    return (data[start : start + SLICE] for start in range(0, len(data), SLICE))


def _start(headers: list[tuple[bytes, bytes]]) -> Message:
    return {"type": "http.response.start", "status": 200, "headers": headers}  # middleware adds to the list


async def _watch(viewer: Viewer, receive: Receive) -> None:
    """Let the viewer leave when the client does."""
    with suppress(Exception):  # a server that cannot say counts as one whose client has gone
        while (await receive())["type"] != "http.disconnect":
            pass
    viewer.leave()


class Stream:
    """A whole event stream that is known beforehand."""

    def __init__(self, body: bytes = b"") -> None:
        self.raw_headers = list(HEADERS)
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(_start(self.raw_headers))
        await send({"type": "http.response.body", "body": self._body, "more_body": False})
