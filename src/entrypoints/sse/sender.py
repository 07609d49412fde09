"""How a viewer's frames reach its client: at once where the connection is free. Knows no project and no event."""

import asyncio
from collections.abc import Iterator

from starlette.types import Message, Send

from .connection import Connection
from .viewer import Viewer

SLICE = 1 << 16
"""Bytes that are sent at once: who takes a slice is alive, though all of a long text may take it minutes."""


class Sender:
    """`stagecast.entrypoints.sse.viewer.Carrier` of one response.

    Whoever makes the frames writes them to each connection that is free and can be written to (ADR 0019). To any other
    a task sends them by ASGI's `send`, and what comes meanwhile too, until the client has everything.
    """

    __slots__ = ("_connection", "_patience", "_send", "_task", "_viewer", "error", "is_over")

    def __init__(self, viewer: Viewer, send: Send, patience: asyncio.Timeout) -> None:
        """`patience` bounds the connection's own task, which waits for the client's disconnect."""
        self._viewer, self._send, self._patience = viewer, send, patience
        self._connection = Connection(send)
        self._task: asyncio.Task[None] | None = None
        self.is_over = False
        """Whether nothing will be sent any more: all is sent, or the client is gone."""
        self.error: BaseException | None = None
        """What `send` failed with, where that does not mean that the client is gone."""

    async def begin(self, headers: list[tuple[bytes, bytes]], stall: float) -> None:
        """Send the response's start. A client that takes nothing for `stall` seconds is given up."""
        self._connection.bound(stall)
        await self._send(start(headers))
        self._connection.begun()

    def carry(self) -> None:
        if self._task is not None or self.is_over:
            return
        viewer, data = self._viewer, b""
        if self._connection.is_free:
            data = viewer.take()
            if len(data) <= SLICE:
                if data:
                    self._connection.write(data)
                if not viewer.over:
                    return
                data = b""
        self._task = asyncio.get_running_loop().create_task(self.flush(data))
        self._task.add_done_callback(self._done)

    def cut(self, when: float) -> None:
        if self._patience.when() is None:
            self._patience.reschedule(when)

    @property
    def is_cut_off(self) -> bool:
        """Whether the client is known to be gone."""
        return self._connection.is_closed

    def abort(self) -> None:
        """Close the connection without waiting until the client takes what it was sent; it may never do so."""
        self.close()
        self._connection.abort()

    def close(self) -> None:
        """Send nothing more."""
        self.is_over = True
        if self._task is not None:
            self._task.cancel()

    async def flush(self, data: bytes = b"") -> None:
        """Send `data`, all there is to take and, after the last of it, the end. Raises what `send` raises."""
        viewer, send, connection = self._viewer, self._send, self._connection
        clock = asyncio.get_running_loop().time
        while not (viewer.gone or connection.is_closed):
            if data or (data := viewer.take()):
                for slice_ in (data,) if len(data) <= SLICE else _slices(data):
                    viewer.sending_since = clock()
                    await send({"type": "http.response.body", "body": slice_, "more_body": True})
                viewer.sending_since = None
                data = b""
            elif viewer.over:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                break
            else:
                return
        self._end()

    def _end(self) -> None:
        self.is_over = True
        self.cut(asyncio.get_running_loop().time())

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if self.is_over or task.cancelled():
            return
        if (error := task.exception()) is None:
            self.carry()  # what came after the last look
        else:
            is_gone = isinstance(error, OSError) or (isinstance(error, RuntimeError) and self._connection.is_closed)
            self.error = None if is_gone else error  # a RuntimeError is uvloop's word for a closed transport
            self._end()


def start(headers: list[tuple[bytes, bytes]]) -> Message:
    """The start of an event stream's response; middleware adds to the list."""
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _slices(data: bytes) -> Iterator[bytes]:
    return (data[start : start + SLICE] for start in range(0, len(data), SLICE))
