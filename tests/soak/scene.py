"""Everything that takes part: Redis behind two proxies, two servers behind a round-robin, publishers and a worker."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from attrs import Factory, define

from tests.faults.proxy import Proxy
from tests.faults.servers import RoundRobin
from tests.servers import RedisServer, available_redis_kinds, start_redis

from .processes import Publisher, Server, Worker
from .records import Events

LEASE = 8.0
"""Seconds. The longest outage, with the time to notice its end, is shorter."""
SETTINGS = {
    "STAGECAST_LIMITS_LEASE": str(LEASE),
    "STAGECAST_LIMITS_TIME_TO_LIVE": "90",
    "STAGECAST_REDIS_CONNECT_TIMEOUT": "1",
    "STAGECAST_REDIS_COMMAND_TIMEOUT": "1",
    "STAGECAST_SSE_HEARTBEAT": "3",
    "STAGECAST_SSE_LINGER": "1",
}


@define(eq=False)
class Scene:
    """What faults can break. The steady publisher and server live through the whole soak: their memory is measured."""

    folder: Path
    redis: RedisServer
    to_publishers: Proxy
    to_servers: Proxy
    steady_server: Server
    mortal_server: Server
    round_robin: RoundRobin
    steady: Publisher
    mortal: Publisher
    worker: Worker
    broker: RedisServer
    persistence: bool
    events: Events = Factory(Events)

    def redis_answer(self, *command: str) -> Any:
        """Redis's answer to a command, sent past the proxies."""
        with self.redis.client() as client:
            return client.execute_command(*command)

    @contextmanager
    def losing(self) -> Iterator[None]:
        """All data is lost within this block."""
        loss = [time.time(), float("inf")]
        self.events.losses.append(loss)
        try:
            yield
        finally:
            loss[1] = time.time()

    @property
    def measured(self) -> dict[str, int]:
        """The processes whose memory must be flat."""
        pids = {"publisher": self.steady.pid, "server": self.steady_server.pid, "Celery worker": self.worker.pid}
        return {**pids, "Redis": self.redis.pid} if self.redis.running else pids


@asynccontextmanager
async def staged(folder: Path, seed: int, *, persistence: bool) -> AsyncIterator[Scene]:
    """All of it, running; nothing is left of it at the end of the block."""
    kind = available_redis_kinds()[0]
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(start_redis(kind, persistence=persistence))
        broker = stack.enter_context(start_redis(kind))
        to_publishers, to_servers = (stack.enter_context(Proxy(redis.port)) for _ in range(2))
        of_publishers, of_servers = ({**SETTINGS, "STAGECAST_BUS": proxy.url} for proxy in (to_publishers, to_servers))
        steady_server, mortal_server = (Server(of_servers, folder / f"server-{n}.log") for n in ("steady", "mortal"))
        steady, mortal = (Publisher(name, folder, of_publishers, seed) for name in ("steady", "mortal"))
        worker = Worker(folder, broker.url, of_publishers)
        for one in (steady_server, mortal_server):
            stack.callback(one.close)
        stack.callback(worker.stop)
        starts = steady_server.start, mortal_server.start, worker.start
        await asyncio.gather(*map(asyncio.to_thread, starts))
        for publisher in (steady, mortal):
            await publisher.start()
            stack.push_async_callback(publisher.kill_if_running)
        yield Scene(
            folder=folder,
            redis=redis,
            to_publishers=to_publishers,
            to_servers=to_servers,
            steady_server=steady_server,
            mortal_server=mortal_server,
            round_robin=stack.enter_context(RoundRobin([steady_server.port, mortal_server.port])),
            steady=steady,
            mortal=mortal,
            worker=worker,
            broker=broker,
            persistence=persistence,
        )
