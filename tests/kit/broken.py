"""Buses that each break one guarantee, and the part of the contract suite that is to notice it.

Not collected by itself: test_mutants.py runs each class in a pytest of its own.
"""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import ClassVar

import pytest
from attrs import evolve

from stagecast.adapters.memory import MemoryBus, MemorySubscription
from stagecast.domain.bus import Batch, BusLimits, Capabilities, Delivery, MessageBus, Published, Receipt, Snapshot
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.events import ItemCompleted
from stagecast.domain.ledger import ProjectLedger
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic
from stagecast.entrypoints.testing.backend import PATIENCE
from stagecast.entrypoints.testing.contract import Backend, BusContract
from stagecast.entrypoints.testing.contract_closing import ClosingContract
from stagecast.entrypoints.testing.contract_leases import CancelContract, LeaseContract
from stagecast.entrypoints.testing.contract_live import LiveContract
from stagecast.entrypoints.testing.contract_log import LogContract
from stagecast.entrypoints.testing.contract_publishers import PublishersContract
from stagecast.entrypoints.testing.contract_restore import RestoreContract
from stagecast.entrypoints.testing.contract_resume import ResumeContract
from stagecast.entrypoints.testing.contract_tasks import TaskRunsContract
from tests.contract.memory import MemoryBackend


class Hurried:
    """What is to fail need not be waited for; everything else may take its time, however busy the machine is."""

    breaks: ClassVar[int] = 0
    """The guarantee whose tests are to fail."""

    @pytest.fixture(autouse=True)
    def _hurried(self, request: pytest.FixtureRequest, _bus_name: None) -> None:
        if request.function.__name__.startswith(f"test_{self.breaks:02}_"):
            PATIENCE.seconds = vars(self)["patience"] = 1.0


class OnMemory(Hurried):
    """A class of tests whose bus is `bus`."""

    bus: ClassVar[type[MemoryBus]] = MemoryBus

    @pytest.fixture
    def backend(self) -> Backend:
        return MemoryBackend(self.bus)


class Reordering(MemoryBus):
    """Delivers two items that come together in the wrong order."""

    def read(self, topic: Topic, cursor: Position | None) -> tuple[Position | None, list[Delivery]]:
        cursor, found = super().read(topic, cursor)
        for n, (one, other) in enumerate(pairwise(list(found))):
            assert isinstance(one, Published)
            assert isinstance(other, Published)
            if isinstance(one.event, ItemCompleted) and isinstance(other.event, ItemCompleted):
                found[n], found[n + 1] = evolve(one, event=other.event), evolve(other, event=one.event)
                break
        return cursor, found


class TestMutant01(OnMemory, LogContract):
    breaks = 1
    bus = Reordering


class Skipping(MemoryBus):
    """Goes on at the oldest entry that there is where a reader is farther behind, and says nothing."""

    def read(self, topic: Topic, cursor: Position | None) -> tuple[Position | None, list[Delivery]]:
        new, found = super().read(topic, cursor)
        if found and isinstance(found[0], Snapshot) and found[0].reset == "truncated":
            oldest = self._projects[topic.project].entries[0][0]
            return super().read(topic, Position(oldest.epoch, oldest.n - 1))
        return new, found


class TestMutant02(OnMemory, LogContract):
    breaks = 2
    bus = Skipping


class Repeating(MemoryBus):
    """Appends what is sent again."""

    async def publish(self, batch: Batch) -> Receipt:
        if (known := self._ledger(batch.topic.project)._producers.get(batch.producer)) is not None:
            known.sequence = batch.first - 1
        return await super().publish(batch)


class TestMutant03(OnMemory, LogContract):
    breaks = 3
    bus = Repeating


class Abridging(MemoryBus):
    """Leaves a part out of the snapshot that it begins with."""

    @asynccontextmanager
    async def subscribe(self, topic: Topic, after: Position | None = None) -> AsyncIterator[MemorySubscription]:
        async with super().subscribe(topic, after) as subscription:
            first = subscription._ready[0] if subscription._ready else None
            if isinstance(first, Snapshot):
                for state in first.stages.values():
                    state.slots.pop("progress", None)
            yield subscription


class TestMutant04(OnMemory, LogContract):
    breaks = 4
    bus = Abridging


class Replaying(MemoryBus):
    """Resumes with all that came, also what a newer run or attempt has superseded."""

    def _resume(self, topic: Topic, after: Position) -> tuple[Position | None, list[Delivery]]:
        cursor, found = super()._resume(topic, after)
        if found and isinstance(found[0], Published):
            return after, []
        return cursor, found


class TestMutant05(OnMemory, ResumeContract):
    breaks = 5
    bus = Replaying


class Dripping(MemoryBus):
    """Gives a late joiner of a long text its snapshot in several portions."""

    @asynccontextmanager
    async def subscribe(self, topic: Topic, after: Position | None = None) -> AsyncIterator[MemorySubscription]:
        async with super().subscribe(topic, after) as subscription:
            first = subscription._ready[0] if subscription._ready else None
            if isinstance(first, Snapshot):
                length = sum(state.length for state in first.stages.values())
                subscription._ready.extend([evolve(first, reset="truncated")] * (length // 10_000))
            yield subscription


class TestMutant06(OnMemory, LogContract):
    breaks = 6
    bus = Dripping


class Hoarding(MemoryBus):
    """Never lets go of a project."""

    def _living(self, project: str) -> ProjectLedger | None:
        return self._projects.get(project)


class TestMutant07(OnMemory, ResumeContract):
    breaks = 7
    bus = Hoarding


class Unfenced(MemoryBus):
    """Takes what an older attempt of a task sends."""

    async def publish(self, batch: Batch) -> Receipt:
        return await super().publish(evolve(batch, task=None))


class TestMutant08(OnMemory, TaskRunsContract):
    breaks = 8
    bus = Unfenced


class OneConnectionEach(MemoryBackend):
    """A connection for each subscription."""

    async def connections(self) -> int:
        assert self._bus is not None
        return sum(len(several) for several in self._bus._subscriptions.values())


class TestMutant09(OnMemory, ClosingContract):
    breaks = 9

    @pytest.fixture
    def backend(self) -> Backend:
        return OneConnectionEach()


class Keeping(MemoryBus):
    """Remembers the subscriptions that were left."""

    @asynccontextmanager
    async def subscribe(self, topic: Topic, after: Position | None = None) -> AsyncIterator[MemorySubscription]:
        async with super().subscribe(topic, after) as subscription:
            self.__dict__.setdefault("left", []).append(subscription)
            yield subscription


class TestMutant10(OnMemory, ClosingContract):
    breaks = 10
    bus = Keeping


class ByThread:
    """A bus for each thread, that knows nothing of the others'."""

    def __init__(self) -> None:
        self._here = threading.local()

    @property
    def _backend(self) -> MemoryBackend:
        if not hasattr(self._here, "backend"):
            self._here.backend = MemoryBackend()
        backend: MemoryBackend = self._here.backend
        return backend

    async def open(self, limits: BusLimits) -> MessageBus:
        return await self._backend.open(limits)

    async def close(self, bus: MessageBus) -> None:
        await self._backend.close(bus)

    async def lose_everything(self) -> None:
        await self._backend.lose_everything()

    async def connections(self) -> int:
        return 0


class TestMutant11(OnMemory, PublishersContract):
    breaks = 11

    @pytest.fixture
    def backend(self) -> Backend:
        return ByThread()


class Leaking(MemoryBus):
    """Lets an error that is not of the port through."""

    def _check(self) -> None:
        try:
            super()._check()
        except BusUnavailable:
            raise ConnectionResetError("by peer") from None


class TestMutant12(OnMemory, ClosingContract):
    breaks = 12
    bus = Leaking


class Forgetful(MemoryBus):
    """Takes a sign of life for nothing unless an event comes with it."""

    async def publish(self, batch: Batch) -> Receipt:
        stage = self._ledger(batch.topic.project).stages.get(batch.stage)
        lease = stage.leases.get(batch.producer) if stage and not batch.events else None
        self.renewed = None if stage is None or lease is None else (stage, batch.producer, lease)
        return await super().publish(batch)

    def _wake(self, project: str) -> None:
        if (renewed := self.__dict__.pop("renewed", None)) is not None:
            stage, producer, lease = renewed
            if producer in stage.leases:
                stage.leases[producer] = lease
        super()._wake(project)


class TestMutant13(OnMemory, LeaseContract, CancelContract):
    breaks = 13
    bus = Forgetful


class CancellingAnyRun(MemoryBus):
    """Cancels whatever runs."""

    async def cancel(self, topic: Topic, run: str) -> bool:
        stage = self._ledger(topic.project).stages.get(topic.one_stage)
        return await super().cancel(topic, (stage and stage.run) or run)


class TestMutant14(OnMemory, CancelContract):
    breaks = 14
    bus = CancellingAnyRun


class Indifferent(MemoryBus):
    """Does not compare what a producer has been acknowledged with what the log has."""

    async def publish(self, batch: Batch) -> Receipt:
        return await super().publish(evolve(batch, acknowledged=None))


class TestMutant15(OnMemory, RestoreContract):
    breaks = 15
    bus = Indifferent


class TestHealthy(OnMemory, BusContract):
    pass


class Overclaiming(MemoryBus):
    """Claims that its log outlives it."""

    capabilities = Capabilities(processes=False, persistent=True)


class TestOverclaiming(OnMemory, ClosingContract):
    breaks = 12
    bus = Overclaiming
    capabilities = Capabilities(processes=False, persistent=True)


class TestMisdeclared(OnMemory, LiveContract):
    breaks = 12
    capabilities = Capabilities(processes=False, persistent=True)
