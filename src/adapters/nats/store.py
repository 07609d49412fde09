"""`stagecast.adapters.transport.LedgerStore` on a JetStream stream.

A change is one message on the project's subject, accepted if the one before it is still the last. What is large is
stored before, in messages that the change's refers to. So a change is there, whole, or not at all.
"""

import asyncio
import logging
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from attrs import Factory, define, evolve, frozen
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from stagecast.adapters.transport import Change, Entry, Head
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.positions import Position

from .commits import BODY, HEAD, LOG, TAIL_COMMITS, Body, Commit, Note, Tail
from .connection import Connection, NobodyAnswers, connect
from .pieces import Gone, gathered, log_of, put, texts_of, whole
from .recent import Recent
from .settings import NatsSettings
from .stream import Stream, announced_on, open_stream

logger = logging.getLogger("stagecast.nats")

INLINE_HEAD = 16_384
"""Bytes of a head that stand in the change's message: the log is read with them."""
T = TypeVar("T")


@frozen
class _State:
    """A project's last change."""

    sequence: int
    version: int
    commit: Commit
    head: bytes

    @property
    def is_over(self) -> bool:
        return self.commit.note.expires_at <= time.time()


@define
class _Watch:
    """Who watches a project, and the subscription that tells them."""

    callbacks: list[Callable[[], None]] = Factory(list)
    connection: Connection | None = None
    subscription: Subscription | None = None

    async def heard(self, _: Msg) -> None:
        for changed in list(self.callbacks):
            changed()


class NatsStore:
    """One event loop's way to the stream, over one connection, which the first use opens."""

    def __init__(self, settings: NatsSettings, time_to_live: float) -> None:
        self._settings, self._time_to_live = settings, time_to_live
        self._connection: Connection | None = None
        self._stream: Stream | None = None
        self._era = 0
        """Counts streams and connections: a sequence proves nothing where the server may have been put back since."""
        self._opening: asyncio.Task[Stream] | None = None
        self._watched: dict[str, _Watch] = {}
        self._places = Recent[tuple[str, Position], int](4096)
        """Where the log goes on after a position: a sequence."""
        self._states = Recent[str, _State](1024)
        self._tidying: set[asyncio.Task[None]] = set()
        self._closed = False

    async def head(self, project: str) -> Head | None:
        return await self._run(lambda stream: self._head(stream, project))

    async def commit(self, change: Change) -> bool:
        return await self._run(lambda stream: self._commit(stream, change))

    async def log(self, project: str, after: Position | None, count: int) -> list[Entry]:
        return await self._run(lambda stream: self._log(stream, project, after, count))

    async def texts(self, project: str) -> tuple[Head | None, Mapping[str, str]]:
        return await self._run(lambda stream: self._texts(stream, project))

    @asynccontextmanager
    async def watch(self, project: str, changed: Callable[[], None]) -> AsyncIterator[None]:
        key = key_of(project)
        watch = self._watched.setdefault(key, _Watch())
        watch.callbacks.append(changed)
        try:
            await self._run(lambda _: self._hear(key, watch))
            yield
        finally:
            watch.callbacks.remove(changed)
            if not watch.callbacks:
                del self._watched[key]
                if watch.connection and watch.subscription:
                    await watch.connection.leave(watch.subscription)

    async def aclose(self) -> None:
        self._closed = True
        tasks = [*self._tidying, *([self._opening] if self._opening else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._connection is not None:
            await self._connection.aclose()

    async def _run(self, act: Callable[[Stream], Awaitable[T]]) -> T:
        """What `act` returns. Where the stream is gone, with the next one."""
        for _ in range(2):
            stream = await self._opened()
            try:
                return await act(stream)
            except NobodyAnswers:
                if self._stream is stream:
                    self._stream = None
        raise BusUnavailable(f"the JetStream stream {self._settings.stream} has no leader now")

    async def _opened(self) -> Stream:
        if self._closed:
            raise BusUnavailable("the bus is closed")
        if self._stream is not None and self._connection is not None and not self._connection.is_over:
            return self._stream
        if self._opening is None:  # one for all who wait
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(self._on_opened)
        opening = self._opening
        await asyncio.wait({opening})
        if opening.cancelled():
            raise BusUnavailable("the bus is closed")
        return opening.result()

    def _on_opened(self, task: asyncio.Task[Stream]) -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()  # whoever waits raises it; perhaps nobody does any more

    async def _open(self) -> Stream:
        self._stream = None
        connection = self._connection
        if connection is None or connection.is_over:
            if connection is not None:
                await connection.aclose()
            connection = self._connection = await connect(self._settings)
        self._era += 1
        stream = await open_stream(connection, self._settings, 2 * self._time_to_live, self._era)
        for cache in (self._places, self._states):
            cache.clear()
        self._stream = stream
        for key, watch in list(self._watched.items()):
            await self._subscribe(key, watch, connection)
        await connection.settled()
        for watch in self._watched.values():
            for changed in list(watch.callbacks):
                changed()
        return stream

    async def _hear(self, key: str, watch: _Watch) -> None:
        assert self._connection is not None
        await self._subscribe(key, watch, self._connection)
        await self._connection.settled()

    async def _subscribe(self, key: str, watch: _Watch, connection: Connection) -> None:
        if watch.connection is not connection:
            watch.connection = connection
            watch.subscription = await connection.subscribe(announced_on(self._settings.stream, key), watch.heard)

    async def _head(self, stream: Stream, project: str) -> Head | None:
        state = await self._read(stream, project)
        return None if state is None or state.is_over else Head(state.head, state.version)

    async def _read(self, stream: Stream, project: str) -> _State | None:
        key, seen = key_of(project), 0
        while (message := await stream.last(LOG, key)) is not None:
            commit = Commit.loaded(message.data)
            try:
                state = _State(message.sequence, stream.version_of(message), commit, await whole(stream, commit.head))
            except Gone:  # the head of another change has taken its place, or it is lost
                seen = await self._again(stream, key, seen, message.sequence)
                continue
            if stream is self._stream:
                self._states[project] = state
            return state
        self._states.drop(project)
        return None

    async def _again(self, stream: Stream, key: str, seen: int, sequence: int) -> int:
        """Something of the change with this sequence is gone, which was `seen` before: then the project is lost."""
        if sequence == seen:
            logger.warning("a project is lost: parts of it are no longer in the stream %s", self._settings.stream)
            await stream.remove_below(LOG, key, sequence + 1)
        return sequence

    async def _commit(self, stream: Stream, change: Change) -> bool:
        key, project = key_of(change.project), change.project
        state = self._states.get(project)
        if state is None or state.version != change.version:
            state = await self._read(stream, project)
        if change.version != (0 if state is None or state.is_over else state.version):
            return False
        expected = 0 if state is None else state.sequence
        now = time.time()
        if state is None or change.anew:
            note = Note(expires_at=0.0, end=None, tail=Tail(expected + 1))
        else:
            note, horizon = state.commit.note, now - self._time_to_live / 2
            if note.tail.is_full or note.is_dated(horizon):
                try:
                    note = await gathered(stream, key, note, expected, keep=change.keep, now=now, horizon=horizon)
                except Gone:
                    await self._texts(stream, project)  # finds out whether the project is lost
                    return False
        body = Body(entries=change.entries, texts=change.texts).dumped()
        note = _noted(note, change, len(body), expected, now)
        commit = await _as_commit(stream, key, note, change.head, body)
        data = commit.dumped()
        if len(data) > stream.room:
            raise BusUnavailable(
                f"the NATS server takes messages of {stream.room} bytes at the most; raise max_payload"
            )
        sequence = await stream.swap(LOG, key, data, expected)
        if sequence is None:
            return False
        if stream is self._stream:
            if change.entries:
                self._places[project, change.entries[-1][0]] = sequence + 1
            self._tidy(stream, key, state, commit, sequence)
        return True

    async def _texts(self, stream: Stream, project: str) -> tuple[Head | None, Mapping[str, str]]:
        key, seen = key_of(project), 0
        while (state := await self._read(stream, project)) is not None and not state.is_over:
            try:
                texts = await texts_of(stream, key, state.commit.note, state.sequence)
            except Gone:  # a change since has put it elsewhere, or it is lost
                seen = await self._again(stream, key, seen, state.sequence)
                continue
            return Head(state.head, state.version), texts
        return None, {}

    async def _log(self, stream: Stream, project: str, after: Position | None, count: int) -> list[Entry]:
        key, seen = key_of(project), 0
        if after is not None and (news := await self._news(stream, key, project, after, count)) is not None:
            return news
        while (state := await self._read(stream, project)) is not None and not state.is_over:
            try:
                entries = await log_of(stream, key, state.commit.note, state.sequence, after, count)
            except Gone:
                seen = await self._again(stream, key, seen, state.sequence)
                continue
            if entries and entries[-1][0] == state.commit.note.end:
                self._places[project, entries[-1][0]] = state.sequence + 1
            return entries
        return []

    async def _news(self, stream: Stream, key: str, project: str, after: Position, count: int) -> list[Entry] | None:
        """The log after `after`, where a commit that is known ends; else None."""
        if (start := self._places.get((project, after))) is None:
            return None
        entries: list[Entry] = []
        for message in await stream.following(LOG, key, start, TAIL_COMMITS):
            commit = Commit.loaded(message.data)
            try:
                entries += Body.loaded(await whole(stream, commit.body)).entries
            except Gone:
                return None
            if len(entries) > count:
                break
            if entries:
                self._places[project, entries[-1][0]] = message.sequence + 1
        is_next = not entries or entries[0][0].follows(after)  # else what was there has gone into an archive
        return entries[:count] if is_next else None

    def _tidy(self, stream: Stream, key: str, before: _State | None, commit: Commit, sequence: int) -> None:
        """Remove what nobody needs now, in the background: it harms nobody if it stays."""
        if before is None:
            return
        old, dated, note = before.commit, before.commit.note, commit.note
        if dated.is_renewal and note.is_renewal and isinstance(old.head, bytes):
            self._in_background(partial(stream.remove, before.sequence))
        # What belongs to a commit is stored after the one before it.
        least = {}
        if isinstance(old.head, tuple):
            least[HEAD] = commit.head[0] if isinstance(commit.head, tuple) else sequence
        least |= {kind: note.oldest.get(kind, sequence) for kind, oldest in dated.oldest.items()}
        if dated.tail.filled and note.tail.since > dated.tail.since:
            least |= {LOG: note.tail.since, BODY: note.tail.since}
        for kind, below in least.items():
            if below > dated.oldest.get(kind, 0):
                self._in_background(partial(stream.remove_below, kind, key, below))

    def _in_background(self, work: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            try:
                await work()
            except (BusUnavailable, NobodyAnswers) as error:
                logger.debug("could not remove what is old: %s", error)

        task = asyncio.create_task(run())
        self._tidying.add(task)
        task.add_done_callback(self._tidying.discard)


def key_of(project: str) -> str:
    """A project's token in subjects: ids may have dots and wildcards."""
    return urlsafe_b64encode(project.encode()).decode().rstrip("=")


def _noted(note: Note, change: Change, size: int, expected: int, now: float) -> Note:
    """The note of `change`, which follows the one that `note` was of."""
    is_renewal = not change.entries and not change.texts
    tail = note.tail if note.tail.filled else Tail(expected + 1)
    return evolve(
        note,
        expires_at=change.expires_at,
        end=change.entries[-1][0] if change.entries else note.end,
        tail=Tail(
            tail.since,
            tail.commits + 1,
            tail.filled + (not is_renewal),
            tail.size + size,
            tail.began_at if tail.filled else now,
        ),
        segments={
            stage: several for stage, several in note.segments.items() if not change.texts.get(stage, (False, ""))[0]
        },
        is_renewal=is_renewal,
    )


async def _as_commit(stream: Stream, key: str, note: Note, head: bytes, body: bytes) -> Commit:
    """The message, after what is too large for it is stored."""
    is_inline = len(head) <= min(INLINE_HEAD, stream.room // 4)
    commit = Commit(note=note, head=head if is_inline else await put(stream, HEAD, key, head), body=body)
    if len(commit.dumped()) > stream.room:
        commit = evolve(commit, body=await put(stream, BODY, key, body))
    return commit
