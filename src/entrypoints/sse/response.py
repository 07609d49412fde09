"""A viewer's frames as an ASGI response. Knows no project and no event; frames go to `send` as they are, uncopied."""

import asyncio
import random
from contextlib import suppress

from starlette.types import Receive, Scope, Send

from . import framing
from .hub import LAST_SEND, RETRY_MILLISECONDS
from .sender import Sender, start
from .viewer import Viewer

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
)
"""Of every answer that is an event stream. No hop-by-hop header: those are the server's business."""


class EventStream:
    """Sends what `viewer` gets until it ends or the client is gone, then lets it leave.

    The connection's own task does nothing but wait for the client's disconnect, which not every server reports by an
    error of `send`; the `Sender` sends.
    """

    __slots__ = ("_stall", "_viewer", "raw_headers")

    def __init__(self, viewer: Viewer, stall: float) -> None:
        self.raw_headers = list(HEADERS)
        self._viewer = viewer
        self._stall = stall
        """Seconds that the client may take nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        viewer = self._viewer
        patience = asyncio.timeout(None)
        sender = Sender(viewer, send, patience)
        try:
            async with patience:
                await sender.begin(self.raw_headers, self._stall)
                viewer.carrier = sender
                try:
                    sender.carry()
                    with suppress(Exception):  # a server that cannot say counts as one whose client has gone
                        while (await receive())["type"] != "http.disconnect":
                            pass
                finally:
                    viewer.carrier = None
        except TimeoutError:
            if sender.error is not None:
                raise sender.error from None
            if not sender.is_over:  # it has taken nothing for too long, and would not take the end either
                sender.abort()
                await asyncio.sleep(0)  # the server learns of it before it complains of a response without an end
        except OSError:  # the client is gone
            pass
        except RuntimeError:
            if not sender.is_cut_off:
                raise
        except asyncio.CancelledError:  # by a server that stops without a signal
            await _send_away(viewer, sender)
            raise
        finally:
            sender.close()
            viewer.leave()


async def _send_away(viewer: Viewer, sender: Sender) -> None:
    """End the response properly, so that the client comes back at its own time; not where it takes nothing."""
    if viewer.gone or viewer.sending_since is not None:
        return
    viewer.finish(framing.retry(random.randint(*RETRY_MILLISECONDS)))  # noqa: S311
    with suppress(Exception):  # the response has not begun, or is over
        async with asyncio.timeout(LAST_SEND):
            await sender.flush()


class Stream:
    """A whole event stream that is known beforehand."""

    def __init__(self, body: bytes = b"") -> None:
        self.raw_headers = list(HEADERS)
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(self.raw_headers))
        await send({"type": "http.response.body", "body": self._body, "more_body": False})
