"""From messages to the bytes of server-sent events. Pure functions; they know no connection, clock or state.

A block is lines and an empty line. A browser dispatches a block that has data, takes an `id:` over in any case, and
ends a line at CR, LF and CRLF alike; so no value is ever written that contains one. JSON escapes them in messages.
"""

import json
from collections.abc import Mapping

from stagecast.adapters.codec import dumps
from stagecast.domain.errors import InvalidEvent
from stagecast.domain.events import JSON
from stagecast.domain.positions import Position

HEARTBEAT = b": heartbeat\n\n"
"""A comment; it dispatches nothing and keeps proxies from closing a quiet connection."""


def event(message: Mapping[str, JSON], position: Position | None = None) -> bytes:
    """One unnamed event: the message as JSON in one data line, after the `id:` where there is a position."""
    data = _json(message)
    if position is None:
        return b"data: %b\n\n" % data
    return b"id: %b\ndata: %b\n\n" % (_identifier(str(position)), data)


def id_only(position: Position) -> bytes:
    """A block that dispatches nothing and sets what the browser will send as Last-Event-ID."""
    return b"id: %b\n\n" % _identifier(str(position))


CLEARED = "~"
"""Behind the id of one who has seen all up to it, and was then told that it is shown no more."""


def cleared(position: Position) -> bytes:
    """Like `id_only`, for one who was told of a loss and not yet what became of it."""
    return b"id: %b\n\n" % _identifier(f"{position}{CLEARED}")


def seen(identifier: str) -> tuple[Position, bool]:
    """The position that a client has seen, and whether it was told of a loss since. Raises InvalidPosition."""
    return Position.parse(identifier.removesuffix(CLEARED)), identifier.endswith(CLEARED)


def comment(text: str) -> bytes:
    """A comment. Raises ValueError for text that would end its line."""
    return b": %b\n\n" % _line(text)


def retry(milliseconds: int) -> bytes:
    """How long the browser waits before it connects again. Raises ValueError for less than 0."""
    if milliseconds < 0:
        raise ValueError(f"retry must be 0 or more milliseconds, not {milliseconds}")
    return b"retry: %d\n\n" % milliseconds


def _json(message: Mapping[str, JSON]) -> bytes:
    try:
        return dumps(message)
    except InvalidEvent:  # of a foreign peer: a lone surrogate, which UTF-8 has not and an escape in JSON has, say
        return _foreign(message)


def _foreign(message: Mapping[str, JSON]) -> bytes:
    try:
        return json.dumps(message, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError):  # not even that; its viewers are not to wait for ever for the next
        return b'{"type":"undecodable"}'


def _identifier(text: str) -> bytes:
    if "\0" in text:  # a browser ignores such an id silently
        raise ValueError(f"an event id must not contain NUL: {text!r}")
    return _line(text)


def _line(text: str) -> bytes:
    if "\r" in text or "\n" in text:
        raise ValueError(f"CR and LF would end the line: {text!r}")
    return text.encode()
