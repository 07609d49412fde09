"""One subscription: a cursor on a project's log that live news advances and the log catches up."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from stagecast.domain import backoff
from stagecast.domain.bus import Delivery, Liveness, Published, ResetReason, Snapshot
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.events import Event
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic

from .store import Entry

logger = logging.getLogger("stagecast.subscription")

PAGE = 512
"""Events that are read from the log at once."""
LIVE = 4096
"""Events of the feed that wait for a slow reader; beyond, they are dropped and read from the log later."""


class Source(Protocol):
    """Where a subscription reads what the feed did not bring."""

    async def page(self, project: str, after: Position | None, count: int) -> tuple[list[Entry], Position | None]:
        """Up to `count` log entries after `after`, and the log's end."""
        ...

    async def snapshot(self, topic: Topic, *, texts: bool = True) -> Snapshot: ...

    def live_stages(self, project: str) -> frozenset[str]: ...


class LogSubscription:
    """`stagecast.domain.bus.Subscription`: on entry it is woken for whatever is published from then on."""

    def __init__(self, topic: Topic, source: Source, decode: Callable[[bytes], Event]) -> None:
        self.topic = topic
        self._source, self._decode = source, decode
        self._ready: deque[Delivery] = deque()
        self._cursor: Position | None = None
        self._live: deque[tuple[Position, str, list[bytes]]] = deque()
        self._live_count = 0
        self._behind = False
        self._closed = False
        self._changed = asyncio.Event()

    async def start(self, after: Position | None) -> None:
        """Take the snapshot, or prove that what came after `after` is complete."""
        if after is None:
            await self._restart(None)
            return
        snapshot = await self._source.snapshot(self.topic, texts=False)
        end = snapshot.position
        if end is None or end.epoch != after.epoch or end < after:
            await self._restart("epoch")
            return
        self._cursor = after
        while self._cursor < end:
            entries, _ = await self._source.page(self.topic.project, self._cursor, PAGE)
            if not entries or not entries[0][0].follows(self._cursor):
                await self._restart("truncated")
                return
            self._deliver(entries, superseded_by=snapshot)

    def offer(self, first: Position, stage: str, lines: list[bytes]) -> None:
        if self._live_count > LIVE:
            self._live.clear()
            self._live_count = 0
            self._behind = True
        self._live.append((first, stage, lines))
        self._live_count += len(lines)
        self._changed.set()

    def compare(self, end: Position | None) -> None:
        if not self._live and end != self._cursor:
            self.suspect()

    def suspect(self) -> None:
        self._behind = True
        self._changed.set()

    def close(self) -> None:
        """End the iteration."""
        self._closed = True
        self._live.clear()
        self._changed.set()

    @property
    def liveness(self) -> Liveness:
        live = self._source.live_stages(self.topic.project)
        return Liveness(active=frozenset(stage for stage in live if self.topic.covers(stage)))

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        failures = 0
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            if self._behind:
                try:
                    await self._catch_up()
                    failures = 0
                except BusUnavailable as error:
                    failures += 1
                    logger.debug("%s cannot be caught up yet: %s", self.topic, error)
                    await asyncio.sleep(backoff.pause(failures, longest=1.0))
            elif self._live:
                self._take_live()
            else:
                await self._changed.wait()
        return self._ready.popleft()

    def _take_live(self) -> None:
        while self._live and not self._behind:
            first, stage, lines = self._live.popleft()
            self._live_count -= len(lines)
            entries = [(Position(first.epoch, first.n + i), stage, line) for i, line in enumerate(lines)]
            cursor = self._cursor
            if cursor is not None:
                entries = [entry for entry in entries if entry[0] > cursor]
            if entries and not (cursor and entries[0][0].follows(cursor)):
                self._behind = True  # without a cursor too: the news may be of a life that is lost, and come late
            else:
                self._deliver(entries)

    async def _catch_up(self) -> None:
        self._behind = False
        try:
            entries, end = await self._source.page(self.topic.project, self._cursor, PAGE)
            cursor = self._cursor
            if end == cursor:
                return
            if end is None or (cursor is not None and (end.epoch != cursor.epoch or end < cursor)):
                await self._restart("epoch")
                return
            continuous = entries and (entries[0][0].follows(cursor) if cursor else entries[0][0].n == 0)
            if not continuous or entries[-1][0].epoch != end.epoch or entries[0][0].epoch != end.epoch:
                await self._restart("truncated")
                return
        except BaseException:
            self._behind = True
            raise
        self._deliver(entries)
        self._behind = self._behind or entries[-1][0] < end

    async def _restart(self, reset: ResetReason | None) -> None:
        snapshot = await self._source.snapshot(self.topic)
        self._cursor = snapshot.position
        self._ready.append(
            Snapshot(position=snapshot.position, stages=snapshot.stages, reset=reset, time=snapshot.time)
        )

    def _deliver(self, entries: list[Entry], superseded_by: Snapshot | None = None) -> None:
        for position, stage, line in entries:
            self._cursor = position
            if not self.topic.covers(stage):
                continue
            event = self._decode(line)
            if superseded_by is not None:
                state = superseded_by.stages.get(stage)
                if state is not None and state.is_superseded(position, event):
                    continue
            self._ready.append(Published(position=position, event=event))
