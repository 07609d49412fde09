"""The Redis adapter keeps the contract, on each kind of server that this machine has and on fakeredis."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from redis.asyncio import Redis

from stagecast.adapters.redis.bus import RedisBus
from stagecast.adapters.redis.link import Connect, connect_to
from stagecast.domain.bus import BusLimits, Capabilities, MessageBus
from stagecast.entrypoints.testing.actors import CODEC
from stagecast.entrypoints.testing.backend import eventually
from stagecast.entrypoints.testing.contract import (
    BusContract,
    OutageContract,
    ProcessContract,
    RestoreContract,
    RewindContract,
)
from tests.servers import RedisKind, RedisServer, start_redis


class _Handles:
    """Opens buses by one `connect`."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    async def open(self, limits: BusLimits) -> RedisBus:
        return RedisBus(CODEC, limits, self._connect)

    async def close(self, bus: MessageBus) -> None:
        await bus.aclose()


class ServerBackend(_Handles):
    """A real server. It loses everything by FLUSHALL, and goes back by RESTORE, both without a disconnection."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__(connect_to(server.url))
        self.server = server
        self.url = server.url
        self._saved: dict[bytes, tuple[int, bytes]] = {}

    async def lose_everything(self) -> None:
        with self.server.client() as client:
            client.flushall()

    async def connections(self) -> int:
        """Those of stagecast. One that is being closed counts until the server has noticed."""
        counts: list[int] = []

        def settled() -> bool:
            with self.server.client() as client:
                counts.append(sum(one["name"] == "stagecast" for one in client.client_list()))
            return counts[-10:] == counts[-1:] * 10

        await eventually(settled)
        return counts[-1]

    async def save(self) -> None:
        with self.server.client() as client:
            found: Any = {key: (client.pttl(key), client.dump(key)) for key in client.keys("*")}
            self._saved = found

    async def rewind(self) -> None:
        with self.server.client() as client, client.pipeline(transaction=True) as pipe:
            pipe.flushall()
            for key, (life, value) in self._saved.items():
                pipe.restore(key, life, value)
            pipe.execute()


class CrashingBackend(ServerBackend):
    """A real server that is killed: it loses what it has not saved, and loads the dump that it has."""

    @property
    def _dump(self) -> Path:
        return self.server.folder / "dump.rdb"

    async def lose_everything(self) -> None:
        self._dump.unlink(missing_ok=True)
        await self._crash()

    async def save(self) -> None:
        with self.server.client() as client:
            client.save()

    async def rewind(self) -> None:
        await self._crash()

    async def _crash(self) -> None:
        self.server.kill()
        await asyncio.to_thread(self.server.start)


class DurableBackend(ServerBackend):
    """A real server that writes everything to disk before it answers, and is away by a crash or by a freeze."""

    def __init__(self, server: RedisServer, *, freezes: bool) -> None:
        super().__init__(server)
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


class FakeBackend(_Handles):
    """fakeredis: no server, so no other processes."""

    def __init__(self) -> None:
        self._server = fakeredis.FakeServer(version=(7, 0))
        super().__init__(self._client)

    def _client(self, *, max_connections: int) -> Redis:
        return fakeredis.FakeAsyncRedis(server=self._server, version=(7, 0))

    async def lose_everything(self) -> None:
        await self._client(max_connections=1).flushall()

    async def connections(self) -> int:
        return 0


@pytest.fixture(scope="module")
def _volatile(redis_kind: RedisKind) -> Iterator[RedisServer]:
    with start_redis(redis_kind) as server:
        yield server


@pytest.fixture(scope="module")
def _durable(redis_kind: RedisKind) -> Iterator[RedisServer]:
    with start_redis(redis_kind, persistence=True) as server:
        yield server


def _emptied(server: RedisServer) -> RedisServer:
    (server.folder / "dump.rdb").unlink(missing_ok=True)
    with server.client() as client:
        client.flushall()
    return server


class TestRedisBus(BusContract, ProcessContract, RewindContract):
    """Every guarantee, on real servers."""

    name = "redis"
    capabilities = Capabilities(persistent=True)

    @pytest.fixture
    def backend(self, _volatile: RedisServer) -> ServerBackend:
        return ServerBackend(_emptied(_volatile))


class TestRedisThatCrashes(RestoreContract, RewindContract):
    """Restore, where the server dies and comes back without its data, or with an old dump."""

    name = "redis that crashes"

    @pytest.fixture
    def backend(self, _volatile: RedisServer) -> CrashingBackend:
        return CrashingBackend(_emptied(_volatile))


class TestRedisThatIsAway(OutageContract):
    """Outages of a durable server."""

    name = "redis that is away"

    @pytest.fixture
    def backend(self, _durable: RedisServer) -> DurableBackend:
        return DurableBackend(_emptied(_durable), freezes=False)


class TestRedisThatFreezes(OutageContract):
    """Outages in which connections stay open and nobody answers."""

    name = "redis that freezes"

    @pytest.fixture
    def backend(self, _volatile: RedisServer) -> DurableBackend:
        return DurableBackend(_emptied(_volatile), freezes=True)


class TestFakeRedis(BusContract):
    """Every guarantee within one process, on fakeredis."""

    name = "fakeredis"

    @pytest.fixture
    def backend(self) -> FakeBackend:
        return FakeBackend()
