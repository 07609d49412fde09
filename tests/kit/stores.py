"""A `LedgerStore` in the memory of a process, healthy, and broken as engines are. Not collected by itself."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import ClassVar

import pytest
from attrs import Factory, define, evolve

from stagecast.adapters.transport import Change, Entry, Head, StoredBus
from stagecast.domain.bus import BusLimits, Capabilities, MessageBus
from stagecast.domain.positions import Position
from stagecast.entrypoints.testing.actors import CODEC
from stagecast.entrypoints.testing.contract import Backend, BusContract
from stagecast.entrypoints.testing.contract_closing import ClosingContract
from stagecast.entrypoints.testing.contract_log import LogContract
from stagecast.entrypoints.testing.contract_restore import RestoreContract
from stagecast.entrypoints.testing.contract_resume import ResumeContract
from stagecast.entrypoints.testing.contract_runs import PlainRunsContract
from tests.kit.broken import Hurried

_versions = count(1)


@define
class Kept:
    """A project as it is kept."""

    head: Head | None = None
    log: list[Entry] = Factory(list)
    texts: dict[str, str] = Factory(dict)
    watchers: list[Callable[[], None]] = Factory(list)


@define
class MemoryStore:
    """Every step lets others in, as an engine's round trip does."""

    projects: dict[str, Kept]

    def of(self, project: str) -> Kept:
        return self.projects.setdefault(project, Kept())

    async def head(self, project: str) -> Head | None:
        await asyncio.sleep(0)
        return self.of(project).head

    async def commit(self, change: Change) -> bool:
        await asyncio.sleep(0)
        return self.apply(change)

    def apply(self, change: Change) -> bool:
        """At once."""
        kept = self.of(change.project)
        if (kept.head.version if kept.head else 0) != change.version:
            return False
        if change.anew:
            kept.log.clear()
            kept.texts.clear()
        for stage, (begins, text) in change.texts.items():
            kept.texts[stage] = text if begins else kept.texts.get(stage, "") + text
        kept.log.extend(change.entries)
        del kept.log[: -change.keep]
        kept.head = Head(change.head, next(_versions))
        for changed in list(kept.watchers):
            changed()
        return True

    async def log(self, project: str, after: Position | None, count: int) -> list[Entry]:
        await asyncio.sleep(0)
        return [entry for entry in self.of(project).log if after is None or entry[0] > after][:count]

    async def texts(self, project: str) -> tuple[Head | None, Mapping[str, str]]:
        await asyncio.sleep(0)
        kept = self.of(project)
        return kept.head, dict(kept.texts)

    @asynccontextmanager
    async def watch(self, project: str, changed: Callable[[], None]) -> AsyncIterator[None]:
        watchers = self.of(project).watchers
        watchers.append(changed)
        try:
            yield
        finally:
            watchers.remove(changed)

    async def aclose(self) -> None:
        pass


class StoreBackend:
    """Handles on one store."""

    def __init__(self, store: type[MemoryStore]) -> None:
        self._store = store
        self._projects: dict[str, Kept] = {}

    async def open(self, limits: BusLimits) -> MessageBus:
        claims = Capabilities(processes=False, persistent=True)
        return StoredBus(lambda: self._store(self._projects), CODEC, limits, claims)

    async def close(self, bus: MessageBus) -> None:
        await bus.aclose()

    async def lose_everything(self) -> None:
        for kept in self._projects.values():
            kept.head = None
            kept.log.clear()
            kept.texts.clear()

    async def connections(self) -> int:
        return 0


class OnStore(Hurried):
    """A class of tests whose bus keeps everything in `store`."""

    store: ClassVar[type[MemoryStore]] = MemoryStore

    @pytest.fixture
    def backend(self) -> Backend:
        return StoreBackend(self.store)


class Overwriting(MemoryStore):
    """Writes whatever the version is by now."""

    def apply(self, change: Change) -> bool:
        kept = self.of(change.project)
        return super().apply(evolve(change, version=kept.head.version if kept.head else 0))


class TestOverwriting(OnStore, PlainRunsContract):
    breaks = 8
    store = Overwriting


class Unsorted(MemoryStore):
    """Gives a page in the order of positions as text."""

    async def log(self, project: str, after: Position | None, count: int) -> list[Entry]:
        found = await super().log(project, after, count)
        return sorted(found, key=lambda entry: str(entry[0]))


class TestUnsorted(OnStore, LogContract):
    breaks = 1
    store = Unsorted


class Trimming(MemoryStore):
    """Keeps less than it was told to."""

    def apply(self, change: Change) -> bool:
        return super().apply(evolve(change, keep=1))


class TestTrimming(OnStore, LogContract):
    breaks = 2
    store = Trimming


class Mixing(MemoryStore):
    """Reads head and texts in two moments."""

    async def texts(self, project: str) -> tuple[Head | None, Mapping[str, str]]:
        head = await self.head(project)
        for _ in range(5):
            await asyncio.sleep(0)
        return head, dict(self.of(project).texts)


class TestMixing(OnStore, LogContract):
    breaks = 4
    store = Mixing


class Reviving(MemoryStore):
    """Never begins a text anew."""

    def apply(self, change: Change) -> bool:
        return super().apply(evolve(change, texts={stage: (False, text) for stage, (_, text) in change.texts.items()}))


class TestReviving(OnStore, ResumeContract):
    breaks = 5
    store = Reviving


class Bare(MemoryStore):
    """Lets an error of its engine through when it is closed."""

    async def head(self, project: str) -> Head | None:
        raise OSError("no such engine")


class TestBare(OnStore, ClosingContract):
    breaks = 12
    store = Bare


class Torn(MemoryStore):
    """Writes the head, and of what belongs to it only the log."""

    def apply(self, change: Change) -> bool:
        return super().apply(evolve(change, texts={}))


class TestTorn(OnStore, RestoreContract):
    breaks = 15
    store = Torn


class TestHealthyStore(OnStore, BusContract):
    name = "store"
    capabilities = Capabilities(processes=False, persistent=True)
