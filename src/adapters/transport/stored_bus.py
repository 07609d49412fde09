"""MessageBus over a `LedgerStore`: the rules of `stagecast.domain.ledger`, run by whoever publishes. Knows no engine.

Each change is made from the head of the project and written by compare-and-swap: where somebody else was first, it is
made again from the new head. Subscriptions read the log, and are woken by the store's `watch`.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from stagecast.domain.bus import (
    Batch,
    BusLimits,
    Capabilities,
    EventCodec,
    Opened,
    Opening,
    Receipt,
    Snapshot,
)
from stagecast.domain.errors import BusUnavailable, EventTooLarge
from stagecast.domain.events import TokenEmitted
from stagecast.domain.leases import LeaseWatch, RunKey, report_lapse
from stagecast.domain.ledger import MICROSECOND, ProjectLedger
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic

from .heads import dumped, load_into
from .per_loop import PerLoop
from .store import Change, Entry, Head, LedgerStore
from .subscription import LogSubscription

logger = logging.getLogger("stagecast.stored")

LOOK = 1.0
"""Seconds, at the most, between two looks at the heads of the projects that are followed."""

T = TypeVar("T")


class StoredBus:
    """`stagecast.domain.bus.MessageBus`. `open_store` makes a store for an event loop; it must not connect yet."""

    def __init__(
        self,
        open_store: Callable[[], LedgerStore],
        codec: EventCodec,
        limits: BusLimits,
        capabilities: Capabilities,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.capabilities, self.limits = capabilities, limits
        self._loops = PerLoop(lambda: _Here(open_store(), codec, limits, clock))

    async def open_run(self, opening: Opening) -> Opened:
        return await self._loops.here().change(opening.topic.project, lambda ledger, now: ledger.open_run(opening, now))

    async def publish(self, batch: Batch) -> Receipt:
        here = self._loops.here()
        encoded = here.encoded(batch)
        return await here.change(batch.topic.project, lambda ledger, now: ledger.publish(batch, encoded, now))

    async def cancel(self, topic: Topic, run: str) -> bool:
        return await self._loops.here().change(topic.project, lambda ledger, now: ledger.cancel(topic, run, now))

    @asynccontextmanager
    async def subscribe(self, topic: Topic, after: Position | None = None) -> AsyncIterator[LogSubscription]:
        async with self._loops.here().subscribed(topic, after) as subscription:
            yield subscription

    async def aclose(self) -> None:
        await self._loops.aclose()


class _Here:
    """The bus in one event loop; also the source of its subscriptions."""

    def __init__(self, store: LedgerStore, codec: EventCodec, limits: BusLimits, clock: Callable[[], float]) -> None:
        self._store, self._codec, self._limits, self._clock = store, codec, limits, clock
        self._turns: dict[str, asyncio.Lock] = {}
        """Of those in this loop who change a project: they would only overtake each other."""
        self._followed: dict[str, set[LogSubscription]] = {}
        self._live: dict[str, frozenset[str]] = {}
        self._watch = LeaseWatch(limits.lease)
        self._looking: asyncio.Task[None] | None = None

    def encoded(self, batch: Batch) -> list[bytes]:
        """The batch's events. Raises EventTooLarge."""
        encoded = [self._codec.encode(event) for event in batch.events]
        for event, data in zip(batch.events, encoded, strict=True):
            if len(data) > self._limits.event_bytes and not (isinstance(event, TokenEmitted) and event.snapshot):
                raise EventTooLarge(f"{event.type} of {len(data)} bytes; the limit is {self._limits.event_bytes}")
        return encoded

    async def change(self, project: str, act: Callable[[ProjectLedger, int], T]) -> T:
        """What `act` answers, once what it did to the ledger at the given time (microseconds) is written."""
        async with self._turn(project):
            while True:
                head = await self._store.head(project)
                ledger = self._ledger(project, head)
                began = {name: stage.text_began for name, stage in ledger.stages.items()}
                before = dumped(ledger)
                answer = act(ledger, self._now())
                after = dumped(ledger)
                if before == after or await self._store.commit(self._as_change(ledger, head, began, after)):
                    return answer

    @asynccontextmanager
    async def subscribed(self, topic: Topic, after: Position | None) -> AsyncIterator[LogSubscription]:
        subscription = LogSubscription(topic, self, self._codec.decode)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._store.watch(topic.project, subscription.suspect))
            self._followed.setdefault(topic.project, set()).add(subscription)
            if self._looking is None:
                self._looking = asyncio.get_running_loop().create_task(self._look_out())
            try:
                await subscription.start(after)
                yield subscription
            finally:
                subscription.close()
                self._leave(topic.project, subscription)

    async def page(self, project: str, after: Position | None, count: int) -> tuple[list[Entry], Position | None]:
        """Up to `count` log entries after `after`, and the log's end (`LogSubscription`'s source)."""
        # The end first: entries that come between the two looks would be taken for a gap.
        end = self._ledger(project, await self._store.head(project)).end
        return [] if end in {None, after} else await self._store.log(project, after, count), end

    async def snapshot(self, topic: Topic, *, texts: bool = True) -> Snapshot:
        """The state of the topic's stages (`LogSubscription`'s source)."""
        found: dict[str, str] = {}
        if texts:
            head, stored = await self._store.texts(topic.project)
            found.update(stored)
        else:
            head = await self._store.head(topic.project)
        ledger = self._ledger(topic.project, head)
        for name, stage in ledger.stages.items():
            stage.text[:] = [found.get(name, "")]
        return ledger.snapshot(topic, self._codec.decode, self._now())

    def live_stages(self, project: str) -> frozenset[str]:
        """The stages that somebody holds a lease on, as of the last look."""
        return self._live.get(project, frozenset())

    async def aclose(self) -> None:
        """End every subscription and free the store."""
        for subscription in [one for several in self._followed.values() for one in several]:
            subscription.close()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._store.aclose()

    def _leave(self, project: str, subscription: LogSubscription) -> None:
        followers = self._followed[project]
        followers.discard(subscription)
        if not followers:
            del self._followed[project]
            self._live.pop(project, None)

    async def _look_out(self) -> None:
        """Let subscriptions compare themselves with the log, and end the runs whose leases have lapsed."""
        while True:
            await asyncio.sleep(min(LOOK, self._limits.lease / 4))
            try:
                await self._look()
            except BusUnavailable as error:
                self._watch.interrupt()
                logger.debug("a look at the heads failed: %s", error)

    async def _look(self) -> None:
        heads = [(project, await self._store.head(project)) for project in list(self._followed)]
        self._watch.begin(asyncio.get_running_loop().time())
        seen: set[RunKey] = set()
        for project, head in heads:
            ledger = self._ledger(project, head)
            for subscription in list(self._followed.get(project, ())):
                subscription.compare(ledger.end)
            leases = list(ledger.leases())
            if project in self._followed:
                self._live[project] = frozenset(stage for stage, _, held in leases if held)
            for stage, run, held in leases:
                key, beats = (project, stage, run), {producer: lease.beat for producer, lease in held.items()}
                seen.add(key)
                if not beats or self._watch.lapsed(key, beats):
                    await self._lapse(key, beats)
        self._watch.keep(seen)

    async def _lapse(self, key: RunKey, beats: dict[str, int]) -> None:
        project, stage, run = key
        if await self.change(project, lambda ledger, now: ledger.lapse(stage, run, beats, now)):
            report_lapse(key, beats)

    def _ledger(self, project: str, head: Head | None) -> ProjectLedger:
        ledger = ProjectLedger(project=project, limits=self._limits, encode=self._codec.encode)
        if head is not None:
            load_into(ledger, head.data)
            if self._now() - ledger.touched > self._limits.time_to_live * MICROSECOND:
                return ProjectLedger(project=project, limits=self._limits, encode=self._codec.encode)
        return ledger

    def _as_change(
        self, ledger: ProjectLedger, head: Head | None, began: dict[str, Position | None], data: bytes
    ) -> Change:
        texts = {
            name: (stage.text_began != began.get(name), "".join(stage.text))
            for name, stage in ledger.stages.items()
            if stage.text or stage.text_began != began.get(name)
        }
        return Change(
            project=ledger.project,
            version=0 if head is None else head.version,
            head=data,
            entries=tuple(ledger.entries),
            texts=texts,
            anew=not began,
            keep=self._limits.log_length,
            expires_at=ledger.touched / MICROSECOND + self._limits.time_to_live,
        )

    @asynccontextmanager
    async def _turn(self, project: str) -> AsyncIterator[None]:
        lock = self._turns.setdefault(project, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and self._turns.get(project) is lock:
                del self._turns[project]

    def _now(self) -> int:
        return int(self._clock() * MICROSECOND)
