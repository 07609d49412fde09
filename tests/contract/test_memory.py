"""The memory adapter keeps the contract."""

from copy import deepcopy

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits, MessageBus
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.ledger import ProjectLedger
from stagecast.entrypoints.testing.actors import CODEC, STAGE
from stagecast.entrypoints.testing.contract import BusContract, ProcessContract, RewindContract


class MemoryBackend:
    """One bus object: memory has nothing behind it."""

    url = "memory://"

    def __init__(self) -> None:
        self._bus: MemoryBus | None = None
        self._saved: dict[str, ProjectLedger] = {}

    async def open(self, limits: BusLimits) -> MemoryBus:
        if self._bus is None or await self._is_closed():
            self._bus = MemoryBus(CODEC, limits)
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

    async def _is_closed(self) -> bool:
        assert self._bus is not None
        try:
            await self._bus.cancel(STAGE, "unknown")
        except BusUnavailable:
            return True
        return False


def _copy(ledger: ProjectLedger) -> ProjectLedger:
    return deepcopy(ledger, {id(ledger.encode): ledger.encode, id(ledger.limits): ledger.limits})


class TestMemoryBus(BusContract, ProcessContract, RewindContract):
    """Every guarantee, by the adapter in memory."""

    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()
