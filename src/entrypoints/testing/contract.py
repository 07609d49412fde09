"""The contract suite of the MessageBus port: subclass it, provide the fixture `backend`, and every guarantee is tested.

    class TestMyBus(TransportContract):
        name = "mine"
        capabilities = Capabilities(persistent=True)
        faults = ("rewind",)

        @pytest.fixture
        def backend(self) -> Iterator[Backend]:
            with my_server() as server:
                yield MyBackend(server)

What the bus does not claim and the backend cannot do is not asked; the plugin (`stagecast.entrypoints.testing.plugin`)
says so below the header, and explains each failure by the guarantee that is broken. docs/extending.md goes through it.
Tests need pytest and anyio's plugin, which comes with anyio.

A class may also inherit from `BusContract` alone, or from parts: `ProcessContract`, `RewindContract`, `OutageContract`,
`RestoreContract`.
"""

from collections.abc import Iterable
from typing import ClassVar

import pytest

from .backend import Backend, UrlBackend
from .claims import ContractTests, needs
from .contract_closing import ClosingContract
from .contract_faults import OutageContract, RewindContract
from .contract_leases import CancelContract, LeaseContract
from .contract_live import LiveContract
from .contract_log import LogContract
from .contract_overtaking import OvertakingContract
from .contract_processes import ProcessContract
from .contract_publishers import PublishersContract
from .contract_restore import RestoreContract
from .contract_resume import ResumeContract
from .contract_runs import PlainRunsContract
from .contract_tasks import TaskRunsContract
from .contract_text import TextContract

__all__ = [
    "Backend",
    "BusContract",
    "ContractTests",
    "OutageContract",
    "ProcessContract",
    "RestoreContract",
    "RewindContract",
    "TransportContract",
    "UrlBackend",
    "needs",
]


class BusContract(
    LiveContract,
    LogContract,
    ResumeContract,
    TextContract,
    PlainRunsContract,
    TaskRunsContract,
    ClosingContract,
    PublishersContract,
    LeaseContract,
    CancelContract,
    RestoreContract,
    OvertakingContract,
):
    """All that every bus guarantees."""

    @pytest.fixture
    def backend(self) -> Backend:
        """The backend under test, empty; to be overridden."""
        raise NotImplementedError("a subclass of BusContract overrides the fixture `backend`")


class TransportContract(BusContract, ProcessContract, RewindContract, OutageContract):
    """All that there is for a transport that `open_bus` opens by a URL; what is not claimed is not asked."""

    faults: ClassVar[Iterable[str] | None] = ()
