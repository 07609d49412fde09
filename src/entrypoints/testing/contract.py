"""The contract suite of the MessageBus port: subclass it, provide the fixture `backend`, and every guarantee is tested.

    class TestMyBus(BusContract):
        @pytest.fixture
        def backend(self) -> Iterator[Backend]:
            with my_server() as server:
                yield MyBackend(server)

`ProcessContract`, `RewindContract` and `OutageContract` test more of a backend that can do more; where one applies,
the same class inherits from it too. Tests need pytest and anyio's plugin, which comes with anyio.
"""

import pytest

from .backend import Backend
from .contract_closing import ClosingContract
from .contract_faults import OutageContract, RewindContract
from .contract_leases import CancelContract, LeaseContract
from .contract_log import LogContract
from .contract_overtaking import OvertakingContract
from .contract_processes import ProcessContract
from .contract_publishers import PublishersContract
from .contract_restore import RestoreContract
from .contract_resume import ResumeContract
from .contract_runs import PlainRunsContract
from .contract_tasks import TaskRunsContract
from .contract_text import TextContract

__all__ = ["BusContract", "OutageContract", "ProcessContract", "RestoreContract", "RewindContract"]


class BusContract(
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

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Buses are for asyncio."""
        return "asyncio"

    @pytest.fixture
    def backend(self) -> Backend:
        """The backend under test, empty; to be overridden."""
        raise NotImplementedError("a subclass of BusContract overrides the fixture `backend`")
