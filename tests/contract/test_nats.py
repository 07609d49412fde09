"""The NATS adapter keeps the contract, on a real server with JetStream."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest

from stagecast.adapters.nats.bus import open_nats_bus
from stagecast.domain.bus import BusLimits, MessageBus
from stagecast.entrypoints.testing.actors import CODEC
from stagecast.entrypoints.testing.backend import eventually
from stagecast.entrypoints.testing.contract import (
    BusContract,
    OutageContract,
    ProcessContract,
    RestoreContract,
    RewindContract,
)
from tests.servers import NatsServer, start_nats


class ServerBackend:
    """A real server. It loses everything when the stream is deleted, without a disconnection."""

    def __init__(self, server: NatsServer) -> None:
        self.server = server
        self.url = server.url

    async def open(self, limits: BusLimits) -> MessageBus:
        return open_nats_bus(self.url, CODEC, limits)

    async def close(self, bus: MessageBus) -> None:
        await bus.aclose()

    async def lose_everything(self) -> None:
        async with await nats.connect(self.url, allow_reconnect=False) as client:
            answer = json.loads((await client.request("$JS.API.STREAM.DELETE.STAGECAST", timeout=5)).data)
            assert answer.get("success") or answer["error"]["code"] == 404

    async def connections(self) -> int:
        """Those of stagecast. One that is being closed counts until the server has noticed."""
        counts: list[int] = []

        async def settled() -> bool:
            found = await asyncio.to_thread(self.server.monitored, "connz?limit=10000")
            counts.append(sum(one.get("name") == "stagecast" for one in found["connections"]))
            return counts[-10:] == counts[-1:] * 10

        await eventually(settled)
        return counts[-1]


class CrashingBackend(ServerBackend):
    """A real server that is killed, and comes back with nothing, or with a copy of what it kept."""

    def __init__(self, server: NatsServer, folder: Path) -> None:
        super().__init__(server)
        self._copy = folder / "copy"

    async def lose_everything(self) -> None:
        await asyncio.to_thread(self.server.replace_store, None)

    async def save(self) -> None:
        await asyncio.to_thread(self.server.copy_store, self._copy)

    async def rewind(self) -> None:
        await asyncio.to_thread(self.server.replace_store, self._copy)


class AbsentBackend(ServerBackend):
    """A real server that is away by a crash or by a freeze, and has kept everything."""

    def __init__(self, server: NatsServer, *, freezes: bool) -> None:
        super().__init__(server)
        self.url += "?connect_timeout=1&command_timeout=1"
        self._freezes = freezes

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        if self._freezes:
            self.server.pause()
        else:
            self.server.kill()
        try:
            yield
        finally:
            if self._freezes:
                self.server.resume()
            else:
                await asyncio.to_thread(self.server.start)


@pytest.fixture(scope="module")
def _server() -> Iterator[NatsServer]:
    with start_nats() as server:
        yield server


@pytest.fixture
async def _empty(_server: NatsServer) -> NatsServer:
    await ServerBackend(_server).lose_everything()
    return _server


class TestNatsBus(BusContract, ProcessContract):
    """Every guarantee, on a real server."""

    @pytest.fixture
    def backend(self, _empty: NatsServer) -> ServerBackend:
        return ServerBackend(_empty)


class TestNatsThatCrashes(RestoreContract, RewindContract):
    """Restore, where the server dies and comes back without its data, or with an old copy."""

    @pytest.fixture
    def backend(self, _empty: NatsServer, tmp_path: Path) -> CrashingBackend:
        return CrashingBackend(_empty, tmp_path)


class TestNatsThatIsAway(OutageContract):
    """Outages of a server that keeps its data."""

    @pytest.fixture
    def backend(self, _empty: NatsServer) -> AbsentBackend:
        return AbsentBackend(_empty, freezes=False)


class TestNatsThatFreezes(OutageContract):
    """Outages in which connections stay open and nobody answers."""

    @pytest.fixture
    def backend(self, _empty: NatsServer) -> AbsentBackend:
        return AbsentBackend(_empty, freezes=True)
