"""How a request may arrive where `stagecast serve` is the server: whole within a time, its head within a size.

uvicorn waits for the rest of a request for ever, and keeps a head of any length.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import ClassVar

from attrs import frozen
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from .refusals import problem
from .settings import EdgeSettings
from .tally import Tally


@frozen
class Bounds:
    """What is asked of requests, and where those are counted that don't keep to it."""

    settings: EdgeSettings
    tally: Tally


def protocol(bounds: Bounds) -> type[asyncio.Protocol]:
    """uvicorn's protocol, within `bounds`."""
    logging.getLogger("uvicorn.error").addFilter(_is_worth_a_line)
    return type("PromptProtocol", (_PromptProtocol,), {"bounds": bounds})


class _PromptProtocol(HttpToolsProtocol):
    __slots__ = "due", "head"  # uvicorn's own attributes are as many as Python keeps cheaply
    bounds: ClassVar[Bounds]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.head: int | None = None
        """Bytes of a request's head that has begun and is not whole."""
        self.due: asyncio.TimerHandle | None = None
        """Ends the connection unless the request that is awaited is whole before."""
        super().connection_made(transport)
        self.expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self.settle()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.due is None and self.is_free:
            self.expect()  # whatever came, uvicorn's own timer has ended
        if self.head is not None:
            self.head += len(data)
            settings = self.bounds.settings
            if len(self.url) > settings.url_bytes:
                self.refuse(414, "url", "the path and its query are too long")
            elif self.head > settings.url_bytes + settings.header_bytes:
                self.refuse(431, "headers", "the headers are too long")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.head = 0

    def on_headers_complete(self) -> None:
        self.head = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.settle()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self.refuse(400, "http", "this is no HTTP request")

    @property
    def is_free(self) -> bool:
        """Whether no answer is under way."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def expect(self) -> None:
        """A whole request has to come."""
        self.due = self.loop.call_later(self.bounds.settings.request_seconds, self.late)

    def settle(self) -> None:
        """The request has come, or never will."""
        if self.due is not None:
            self.due.cancel()
            self.due = None

    def late(self) -> None:
        self.due = None
        if not self.is_free:  # a stream lives, whatever is sent behind it; and who needs a body has a time for it
            self.expect()
        elif self.head is None:  # nothing has begun: browsers connect in advance
            self.transport.close()
        else:
            self.refuse(408, "slow", "the request did not come in time")

    def refuse(self, status: int, reason: str, detail: str) -> None:
        """Answer, unless another answer is under way, and close."""
        self.head = None
        self.bounds.tally.note(status, reason, f"a request is refused ({status}): {detail}")
        if cycle_is_silent := not self.is_free and not self.cycle.response_started and not self.pipeline:
            self.cycle.disconnected = True  # what it would say comes too late: its request is none
        if (self.is_free or cycle_is_silent) and not self.transport.is_closing():
            answer = problem(status, detail, {"Connection": "close"})
            headers = [*self.server_state.default_headers, *answer.raw_headers]
            lines = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode())]
            lines += [b"%b: %b" % header for header in headers]
            self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self.transport.close()


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Not what anybody on the network can have written into the log as often as they like."""
    return not str(record.msg).startswith(
        ("Invalid HTTP request", "Unsupported upgrade request", "No supported WebSocket library")
    )
