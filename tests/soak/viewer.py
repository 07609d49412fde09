"""A viewer with the manners of an EventSource: it comes back with the last id it has seen, and closes at an end."""

import asyncio
import random
import time
from asyncio import IncompleteReadError

from attrs import frozen

from tests.sse.browser import Response, project_path, request, stage_path

from .records import Session, record_of

TORN = (OSError, IncompleteReadError, TimeoutError, ValueError, IndexError)
"""What a connection that is torn, at whatever place, looks like to tests.sse.browser."""
RETRY = 0.3
"""Seconds before it comes back, where the server has not said."""


@frozen(kw_only=True)
class Manner:
    """How a viewer behaves."""

    name: str = "steady"
    begins_after: float = 0.0
    """Seconds: a late joiner."""
    leaves_after: float | None = None
    reconnects_every: float | None = None
    """Seconds that a connection lasts before the viewer's network is gone."""
    receive_buffer: int | None = None
    pause: float = 0.0
    """Seconds between two reads of a slow one."""


async def watch(port: int, session: Session, manner: Manner, chance: random.Random) -> None:
    """Look until the end, or until cancelled: then it has waited in vain. What comes is put into `session`."""
    session.manner = manner.name
    try:
        await asyncio.sleep(manner.begins_after)
        session.began = time.time()
        async with asyncio.timeout(manner.leaves_after):
            await _watch(port, session, manner, chance)
    except TimeoutError:
        session.end = "left"
    except asyncio.CancelledError:
        session.end = "gave_up"
    session.ended = time.time()


async def _watch(port: int, session: Session, manner: Manner, chance: random.Random) -> None:
    last_id, retry = "", RETRY
    query = "delta=1" if session.delta else ""
    if session.stage is None:
        path = project_path(session.project, query)
    else:
        path = stage_path(session.project, session.stage, query)
    while session.end == "open":
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        response: Response | None = None
        try:
            async with request(port, path, headers, receive_buffer=manner.receive_buffer) as response:
                if response.status == 204:
                    session.end = "finished"
                elif response.status != 200:
                    session.end = f"refused {response.status}"
                else:
                    await _read(response, session, manner, chance)
        except TORN:
            pass
        if response is not None:
            last_id = response.stream.last_event_id or last_id
            retry = RETRY if response.stream.retry is None else response.stream.retry / 1000
        if session.end == "open":
            await asyncio.sleep(retry)


async def _read(response: Response, session: Session, manner: Manner, chance: random.Random) -> None:
    """Read one connection; it ends with the stream, or where this viewer's network is gone."""
    until = None
    if manner.reconnects_every is not None:
        until = asyncio.get_running_loop().time() + manner.reconnects_every * chance.uniform(0.3, 1.7)
    async with asyncio.timeout_at(until):
        while await response.read_more():
            events = response.stream.events
            for event in events:
                try:
                    message = event.message
                except ValueError:
                    session.end = "refused: a frame is no JSON"
                    return
                session.records.append(record_of(message, event.own_id))
                if _closes(session, message["type"]):
                    return
            events.clear()
            response.stream.blocks.clear()
            response.stream.raw.clear()
            if manner.pause:
                await asyncio.sleep(manner.pause)


def _closes(session: Session, kind: str) -> bool:
    """Whether the client closes after a message of this type; notes it."""
    if kind == "stream_end":
        session.end = "stream_end"
    elif kind in ({"pipeline_done", "pipeline_error"} if session.stage is None else {"done", "error"}):
        session.end = "closed"
    return session.end != "open"
