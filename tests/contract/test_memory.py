"""The memory adapter keeps the contract."""

import pytest

from stagecast.domain.bus import Capabilities
from stagecast.entrypoints.testing.contract import BusContract, ProcessContract, RewindContract
from tests.contract.memory import MemoryBackend


class TestMemoryBus(BusContract, ProcessContract, RewindContract):
    """Every guarantee, by the adapter in memory."""

    name = "memory"
    capabilities = Capabilities(processes=False)

    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()
