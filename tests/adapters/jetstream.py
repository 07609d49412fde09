"""JetStream seen from beside a bus: a store, the stream and what it keeps, changes made by hand."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.js import JetStreamManager

from stagecast.adapters.nats.settings import settings_of
from stagecast.adapters.nats.store import NatsStore
from stagecast.adapters.transport import Change
from stagecast.domain.positions import Position
from tests.servers import NatsServer


@asynccontextmanager
async def store_of(server: NatsServer, time_to_live: float = 3600.0) -> AsyncIterator[NatsStore]:
    """A store on the server."""
    store = NatsStore(settings_of(server.url), time_to_live)
    try:
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def managing(server: NatsServer) -> AsyncIterator[JetStreamManager]:
    """An operator's hands."""
    async with await nats.connect(server.url, allow_reconnect=False) as client:
        yield client.jsm()


async def kept(server: NatsServer) -> dict[str, int]:
    """How many messages the stream has, by the kinds of their subjects."""
    async with managing(server) as manager:
        info = await manager.stream_info("STAGECAST", subjects_filter=">")
    counts: dict[str, int] = {}
    for subject, count in (info.state.subjects or {}).items():
        kind = subject.split(".")[2]
        counts[kind] = counts.get(kind, 0) + count
    return counts


async def has(server: NatsServer, **most: int) -> bool:
    """Whether the stream has no more messages than `most` of these kinds."""
    counts = await kept(server)
    return all(counts.get(kind, 0) <= count for kind, count in most.items())


def change(version: int, *, head: bytes = b"head", n: int = 0, text: str = "", lives: float = 3600.0) -> Change:
    """A change that appends an entry, and perhaps a text."""
    return Change(
        project="project",
        version=version,
        head=head,
        entries=((Position(1, n), "stage", b"event"),),
        texts={"stage": (n == 0, text)} if text or n == 0 else {},
        anew=version == 0,
        keep=100,
        expires_at=time.time() + lives,
    )


async def version_of(store: NatsStore) -> int:
    """The version of the project's head; 0 where there is none."""
    head = await store.head("project")
    return head.version if head else 0
