"""What a measure runs against: a peer's server on its core, its publisher on the load's, each until the block ends."""

import asyncio
import json
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attrs import frozen
from redis import Redis

from tests.servers import RedisServer, available_redis_kinds, free_port, start_redis

from .load import Crowd
from .peers.sources import Order, Place
from .peers.table import ROOT, Peer
from .processes import LOAD_CORE, SERVER_CORE, Program, cpu_of, pin, ports_of

START_SECONDS = 30.0
ANSWER_SECONDS = 120.0
WARM_SECONDS = 60.0


class Trouble(Exception):
    """A program did not do what a measure needs of it; the message has its log's end."""


@contextmanager
def redis_server(core: int = LOAD_CORE) -> Iterator[RedisServer]:
    """An empty Redis (else Valkey) on `core`."""
    kind = available_redis_kinds()[-1]  # Redis 7, where the machine has it
    with start_redis(kind, extra_args=["--maxclients", "15000"]) as server:
        pin(server.pid, core)
        yield server


class Publishing:
    """The handle of a publisher's process."""

    def __init__(self, program: Program) -> None:
        self.program = program

    async def tokens(self, order: Order) -> float:
        """Publish; the seconds that it took."""
        answer = await asyncio.to_thread(ask, self.program, order.as_json())
        return float(answer["seconds"])


def ask(program: Program, order: dict[str, Any] | None) -> dict[str, Any]:
    """Give a talking program an order and wait for its answer; without an order, for its first word."""
    stdin, stdout = program.process.stdin, program.process.stdout
    assert stdin is not None
    assert stdout is not None
    if order is not None:
        stdin.write(json.dumps(order).encode() + b"\n")
        stdin.flush()
    line = stdout.readline()
    if not line:
        raise Trouble(f"a publisher has ended: {tail(program.log)}")
    answer: dict[str, Any] = json.loads(line)
    return answer


def tail(log: Path) -> str:
    return log.read_text(errors="replace")[-400:]


@frozen
class Setting:
    """A running peer."""

    peer: Peer
    servers: list[Program]
    places: list[Place]
    publisher: Publishing
    redis: RedisServer

    @property
    def port(self) -> int:
        return self.places[0].port

    def path(self, topic: str) -> str:
        """A viewer's path."""
        return self.peer.path.format(topic=topic)

    def cpu(self) -> float:
        """Processor time of the servers so far."""
        return sum(one.cpu() for one in self.servers)

    def load_cpu(self) -> float:
        """Processor time of the load's other processes so far: publisher and Redis."""
        return self.publisher.program.cpu() + cpu_of(self.redis.pid)

    def redis_connections(self) -> int:
        """The servers' connections at Redis, by its CLIENT LIST."""
        own = {port for server in self.servers for port in ports_of(server)}
        with self.redis.client() as client:
            listed = client.client_list()
        return sum(int(one["addr"].rpartition(":")[2]) in own for one in listed)

    async def warm(self, crowd: Crowd, topics: list[str]) -> None:
        """Publish until every viewer has seen a token: then every subscription stands."""
        deadline = time.monotonic() + WARM_SECONDS
        while crowd.reached < len(crowd.viewers):
            if time.monotonic() > deadline:
                shown = f"{crowd.reached} of {len(crowd.viewers)} viewers see anything, {crowd.lost} connections ended"
                raise Trouble(f"{self.peer.key}: {shown}: {tail(self.servers[0].log)}")
            await self.publisher.tokens(Order(topics, len(topics)))
            await crowd.until(lambda: crowd.reached == len(crowd.viewers), 1.0)


@asynccontextmanager
async def running(peer: Peer, redis: RedisServer, processes: int = 1) -> AsyncIterator[Setting]:
    """`peer` with `processes` servers on one core, and its publisher."""
    with redis.client() as client:
        client.flushall()
    with tempfile.TemporaryDirectory(prefix="stagecast-bench-") as folder:
        logs = Path(folder)
        places = [Place(free_port(), redis.url, redis.port) for _ in range(processes)]
        programs: list[Program] = []
        try:
            for n, place in enumerate(places):
                programs.append(
                    Program(
                        [*peer.interpreter(), *peer.command(place)],
                        SERVER_CORE,
                        logs / f"server-{n}.log",
                        {"PYTHONPATH": str(ROOT), **peer.variables(place)},
                    )
                )
            publisher = Program(
                [peer.publisher_python, "-m", "benchmarks.publishing", peer.module, json.dumps(asdict(places[0]))],
                LOAD_CORE,
                logs / "publisher.log",
                {"PYTHONPATH": str(ROOT), **peer.variables(places[0])},
                talks=True,
            )
            programs.append(publisher)
            for program, place in zip(programs, places, strict=False):
                await _answering(peer, program, place.port)
            await asyncio.to_thread(ask, publisher, None)
            yield Setting(peer, programs[:processes], places, Publishing(publisher), redis)
        finally:
            for program in reversed(programs):
                program.stop()


async def _answering(peer: Peer, program: Program, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            if not program.is_running or time.monotonic() > deadline:
                raise Trouble(f"{peer.key} does not start: {tail(program.log)}") from None
            await asyncio.sleep(0.02)
        else:
            return


@contextmanager
def talking(module: str, *arguments: str) -> Iterator[Program]:
    """A program of this package that takes orders, on the load's core."""
    with (
        tempfile.TemporaryDirectory(prefix="stagecast-bench-") as folder,
        Program(
            [sys.executable, "-m", module, *arguments],
            LOAD_CORE,
            Path(folder) / "program.log",
            {"PYTHONPATH": str(ROOT)},
            talks=True,
        ) as program,
    ):
        ask(program, None)
        yield program


def used_memory(client: "Redis") -> int:
    """Bytes that Redis has allocated."""
    return int(client.info("memory")["used_memory"])
