"""The bus within one process: for unit tests, demos and single-process servers. Knows no network and no other process.

It stores encoded events, as every transport does, so what cannot be encoded fails here too. It is thread-safe and
serves any number of event loops: publishers and subscribers may live in different threads.
"""

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import islice

from stagecast.domain.bus import (
    Batch,
    BusLimits,
    Capabilities,
    Delivery,
    EventCodec,
    Liveness,
    Opened,
    Opening,
    Published,
    Receipt,
    Snapshot,
)
from stagecast.domain.errors import BusUnavailable, EventTooLarge, NotConfigured
from stagecast.domain.events import TokenEmitted
from stagecast.domain.leases import LeaseWatch, RunKey, report_lapse
from stagecast.domain.ledger import MICROSECOND, ProjectLedger
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic

_PAGE = 256
"""Events that a subscription takes out of the log at once."""
_LOOK = 1.0
"""Seconds between two looks at leases and expiry while a subscription waits."""


class MemorySubscription:
    """A cursor on a project's log; a slow reader costs nothing but its cursor."""

    def __init__(self, bus: "MemoryBus", topic: Topic, first: Iterable[Delivery], cursor: Position | None) -> None:
        self.topic = topic
        self._bus = bus
        self._ready: deque[Delivery] = deque(first)
        self._cursor = cursor
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self.closed = False

    def wake(self) -> None:
        """Let the reader look at the log again. From any thread."""
        if self._changed.is_set():
            return
        with suppress(RuntimeError):  # the reader's loop is closed
            self._loop.call_soon_threadsafe(self._changed.set)

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        while not self._ready:
            if self.closed:
                raise StopAsyncIteration
            self._changed.clear()
            self._cursor, found = self._bus.read(self.topic, self._cursor)
            self._ready.extend(found)
            if not found and not self.closed:
                # Not wait_for: up to Python 3.11 it swallows a cancellation that comes together with a wake-up.
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._bus.look_interval):
                        await self._changed.wait()
                self._bus.look()
        return self._ready.popleft()

    @property
    def liveness(self) -> Liveness:
        return self._bus.liveness(self.topic)


class MemoryBus:
    """`stagecast.domain.bus.MessageBus` in the memory of this process. Refuses to work in a forked child."""

    capabilities = Capabilities(processes=False)

    def __init__(
        self,
        codec: EventCodec,
        limits: BusLimits | None = None,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits or BusLimits()
        self.look_interval = min(_LOOK, self.limits.lease / 4)
        self._codec = codec
        self._clock = clock
        self._monotonic = monotonic
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._projects: dict[str, ProjectLedger] = {}
        self._subscriptions: dict[str, dict[MemorySubscription, None]] = {}
        """By project, in the order of their beginning: so they are woken."""
        self._watch = LeaseWatch(self.limits.lease)
        self._looked = float("-inf")
        self._closed = False

    async def open_run(self, opening: Opening) -> Opened:
        self._check()
        with self._lock:
            opened = self._ledger(opening.topic.project).open_run(opening, self._now())
        self._wake(opening.topic.project)
        return opened

    async def publish(self, batch: Batch) -> Receipt:
        encoded = [self._codec.encode(event) for event in batch.events]
        for event, data in zip(batch.events, encoded, strict=True):
            if len(data) > self.limits.event_bytes and not (isinstance(event, TokenEmitted) and event.snapshot):
                raise EventTooLarge(f"{event.type} of {len(data)} bytes; the limit is {self.limits.event_bytes}")
        self._check()
        with self._lock:
            receipt = self._ledger(batch.topic.project).publish(batch, encoded, self._now())
        self._wake(batch.topic.project)
        return receipt

    async def cancel(self, topic: Topic, run: str) -> bool:
        self._check()
        with self._lock:
            known = self._living(topic.project)
            cancelled = known is not None and known.cancel(topic, run, self._now())
        self._wake(topic.project)
        return cancelled

    @asynccontextmanager
    async def subscribe(self, topic: Topic, after: Position | None = None) -> AsyncIterator[MemorySubscription]:
        self._check()
        with self._lock:
            if after is None:
                first: list[Delivery] = [self._snapshot(topic)]
                cursor = first[0].position
            else:
                cursor, first = self._resume(topic, after)
            subscription = MemorySubscription(self, topic, first, cursor)
            self._subscriptions.setdefault(topic.project, {})[subscription] = None
        try:
            yield subscription
        finally:
            with self._lock:
                subscription.closed = True
                remaining = self._subscriptions.get(topic.project, {})
                remaining.pop(subscription, None)
                if not remaining:
                    self._subscriptions.pop(topic.project, None)
            subscription.wake()

    async def aclose(self) -> None:
        with self._lock:
            self._closed = True
            subscriptions = [one for several in self._subscriptions.values() for one in several]
            for subscription in subscriptions:
                subscription.closed = True
            self._projects.clear()
        for subscription in subscriptions:
            subscription.wake()

    def read(self, topic: Topic, cursor: Position | None) -> tuple[Position | None, list[Delivery]]:
        """The new cursor and what came after the old one, a page at most; a reset and a snapshot where it is gone."""
        with self._lock:
            ledger = self._living(topic.project)
            end = ledger.end if ledger else None
            if cursor == end:
                return cursor, []
            if ledger is None or end is None:  # lost, or its time is over
                return None, [self._snapshot(topic, "epoch")]
            if cursor is None and ledger.entries[0][0] == Position(end.epoch, 0):
                missing = len(ledger.entries)
            elif cursor is not None and cursor.epoch == end.epoch and 0 < end.n - cursor.n <= len(ledger.entries):
                missing = end.n - cursor.n
            else:
                lost = cursor is not None and cursor.epoch != end.epoch
                snapshot = self._snapshot(topic, "epoch" if lost else "truncated")
                return snapshot.position, [snapshot]
            start = len(ledger.entries) - missing
            page = list(islice(ledger.entries, start, start + _PAGE))
        found: list[Delivery] = [
            Published(position=position, event=self._codec.decode(data))
            for position, stage, data in page
            if topic.covers(stage)
        ]
        return page[-1][0], found

    def look(self) -> None:
        """End the runs whose leases have lapsed and drop the projects whose time is over, at most once an interval."""
        ended: list[tuple[RunKey, dict[str, int]]] = []
        with self._lock:
            now = self._monotonic()
            if self._closed or now - self._looked < self.look_interval:
                return
            self._looked = now
            self._watch.begin(now)
            seen = set()
            for project in list(self._projects):
                if (ledger := self._living(project)) is None:
                    continue
                for stage, run, leases in list(ledger.leases()):
                    key, beats = (project, stage, run), {producer: lease.beat for producer, lease in leases.items()}
                    seen.add(key)
                    if (not beats or self._watch.lapsed(key, beats)) and ledger.lapse(stage, run, beats, self._now()):
                        ended.append((key, beats))
            self._watch.keep(seen)
        for key, beats in ended:
            report_lapse(key, beats)
            self._wake(key[0])

    def liveness(self, topic: Topic) -> Liveness:
        """Which of the topic's stages somebody holds a lease on."""
        with self._lock:
            ledger = self._living(topic.project)
            found = [] if ledger is None else [stage for stage, _, leases in ledger.leases() if leases]
        return Liveness(active=frozenset(stage for stage in found if topic.covers(stage)))

    def lose_everything(self) -> None:
        """Forget all projects, as a server that restarts without persistence does. For tests of restore."""
        with self._lock:
            projects = list(self._projects)
            self._projects.clear()
        for project in projects:
            self._wake(project)

    def _resume(self, topic: Topic, after: Position) -> tuple[Position | None, list[Delivery]]:
        snapshot = self._snapshot(topic)
        if snapshot.position is None or snapshot.position < after or snapshot.position.epoch != after.epoch:
            lost = self._snapshot(topic, "epoch")
            return lost.position, [lost]
        cursor, found = after, list[Delivery]()
        while cursor != snapshot.position:
            next_cursor, page = self.read(topic, cursor)
            if page and isinstance(page[0], Snapshot):
                return next_cursor, page
            assert next_cursor is not None
            cursor = next_cursor
            found.extend(one for one in page if isinstance(one, Published) and not _is_superseded(snapshot, one))
        return cursor, found

    def _snapshot(self, topic: Topic, reset: str | None = None) -> Snapshot:
        ledger = self._living(topic.project) or self._new(topic.project)
        snapshot = ledger.snapshot(topic, self._codec.decode, self._now())
        return Snapshot(
            position=snapshot.position,
            stages=snapshot.stages,
            time=snapshot.time,
            reset=reset,  # type: ignore[arg-type]
        )

    def _ledger(self, project: str) -> ProjectLedger:
        ledger = self._living(project)
        if ledger is None:
            ledger = self._projects[project] = self._new(project)
        return ledger

    def _new(self, project: str) -> ProjectLedger:
        return ProjectLedger(project=project, limits=self.limits, encode=self._codec.encode)

    def _living(self, project: str) -> ProjectLedger | None:
        ledger = self._projects.get(project)
        if ledger is not None and self._now() - ledger.touched > self.limits.time_to_live * MICROSECOND:
            del self._projects[project]
            return None
        return ledger

    def _wake(self, project: str) -> None:
        with self._lock:
            subscriptions = list(self._subscriptions.get(project, ()))
        for subscription in subscriptions:
            subscription.wake()
        self.look()

    def _check(self) -> None:
        if os.getpid() != self._process:
            raise NotConfigured(
                "memory:// lives in one process only, and this is a forked child: name a bus that processes share, "
                "for example STAGECAST_BUS=redis://localhost:6379/0"
            )
        if self._closed:
            raise BusUnavailable("the bus is closed")

    def _now(self) -> int:
        return int(self._clock() * MICROSECOND)


def _is_superseded(snapshot: Snapshot, delivery: Published) -> bool:
    state = snapshot.stages.get(delivery.event.stage)
    return state is not None and state.is_superseded(delivery.position, delivery.event)


def open_memory_bus(url: str, codec: EventCodec, limits: BusLimits) -> MemoryBus:
    """A bus for `memory://`: a new one each time, shared only by who shares the object."""
    return MemoryBus(codec, limits)
