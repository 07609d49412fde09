"""The backend of the bus in memory, for the adapter itself and for the broken ones of tests/kit."""

from collections.abc import Callable
from copy import deepcopy

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits, EventCodec, MessageBus
from stagecast.domain.ledger import ProjectLedger
from stagecast.entrypoints.testing.actors import CODEC


class MemoryBackend:
    """One bus object: memory has nothing behind it."""

    url = "memory://"

    def __init__(self, make: Callable[[EventCodec, BusLimits], MemoryBus] = MemoryBus) -> None:
        self._make = make
        self._bus: MemoryBus | None = None
        self._saved: dict[str, ProjectLedger] = {}

    async def open(self, limits: BusLimits) -> MemoryBus:
        if self._bus is None or self._bus._closed:
            self._bus = self._make(CODEC, limits)
        assert self._bus.limits == limits
        return self._bus

    async def close(self, bus: MessageBus) -> None:
        assert bus is self._bus

    async def lose_everything(self) -> None:
        assert self._bus is not None
        self._bus.lose_everything()

    async def connections(self) -> int:
        return 0

    async def save(self) -> None:
        assert self._bus is not None
        self._saved = {project: _copy(ledger) for project, ledger in self._bus._projects.items()}

    async def rewind(self) -> None:
        assert self._bus is not None
        self._bus._projects.update({project: _copy(ledger) for project, ledger in self._saved.items()})
        for project in self._saved:
            self._bus._wake(project)


def _copy(ledger: ProjectLedger) -> ProjectLedger:
    return deepcopy(ledger, {id(ledger.encode): ledger.encode, id(ledger.limits): ledger.limits})
