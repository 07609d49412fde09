"""A stream's connection, as far as uvicorn shows it: what ASGI has no words for. Knows no viewer.

Where another server runs the application, or middleware stands between, there is nothing to see: then ASGI's own
signs must do.
"""

import socket
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

from starlette.types import Send


@runtime_checkable
class Transport(Protocol):
    """What is used of `asyncio.Transport`; uvloop's is of another class."""

    def is_closing(self) -> bool: ...
    def abort(self) -> None: ...
    def get_extra_info(self, name: str) -> socket.socket | None: ...
    def get_write_buffer_size(self) -> int: ...
    def write(self, data: bytes) -> None: ...


class Connection:
    """The transport behind an ASGI `send`, if there is one to be seen."""

    __slots__ = ("_chunked", "_cycle", "_transport")

    def __init__(self, send: Send) -> None:
        self._cycle: Any = getattr(send, "__self__", None)
        """uvicorn's word for a request and its response."""
        found = getattr(self._cycle, "transport", None)
        self._transport = found if isinstance(found, Transport) else None
        self._chunked: Transport | None = None
        """Where the response's body is sent in chunks, which may be written to the transport."""

    def begun(self) -> None:
        """The response's start has been sent: now it is known how its body is coded (RFC 9112, section 7.1)."""
        if getattr(self._cycle, "chunked_encoding", None) is True:
            self._chunked = self._transport

    @property
    def is_free(self) -> bool:
        """Whether `write` may be used: the client has taken all it was sent, and is not known to be gone."""
        transport = self._chunked
        return not (transport is None or transport.get_write_buffer_size() or transport.is_closing())

    def write(self, data: bytes) -> None:
        """Send a part of the response's body, as the server itself would. Only where `is_free`."""
        if self._chunked is not None:
            self._chunked.write(b"%x\r\n%b\r\n" % (len(data), data))

    @property
    def is_closed(self) -> bool:
        """Whether the client is known to be gone.

        uvicorn tells that only to the newest request of a connection: a stream is left out where the client has
        already sent the next request, and could send into the void for ever.
        """
        return self._transport is not None and self._transport.is_closing()

    def bound(self, seconds: float) -> None:
        """Let the kernel give up a client which takes nothing of what it was sent for so long, where it can.

        A short text and years of heartbeats fit into the kernel's own buffers: `send` never waits for such a client.
        """
        connection = None if self._transport is None else self._transport.get_extra_info("socket")
        if connection is None or not hasattr(socket, "TCP_USER_TIMEOUT"):
            return
        milliseconds = min(max(1, round(seconds * 1000)), 2**31 - 1)
        with suppress(OSError, ValueError):  # not a TCP connection; or closed by now, which uvloop calls a ValueError
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    def abort(self) -> None:
        """Close without waiting until the client takes what it was sent; it may never do so."""
        if self._transport is not None:
            self._transport.abort()
