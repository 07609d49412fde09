"""Many clients, and a frozen one, through the shipped nginx: restarts of the server, and coming back."""

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack

import httpx
import pytest

from stagecast import RedisStreamPublisher
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.testing.actors import Producer
from tests.deploy.nginx import Nginx, running_nginx
from tests.deploy.programs import serve_at
from tests.deploy.reading import Reading, reading
from tests.servers import RedisServer, free_port
from tests.sse.browser import stage_path
from tests.sse.programs import running
from tests.sse.serving import Served, served, viewers_of
from tests.waiting import wait_until

CLIENTS = 100
STALL = 0.3


async def connected(client: httpx.AsyncClient, stack: AsyncExitStack, path: str, seen: list[str]) -> list[Reading]:
    """As many streams as there are last ids, all asked for at once."""
    opening = [
        stack.enter_async_context(reading(client, path, {"Last-Event-ID": last} if last else {})) for last in seen
    ]
    return list(await asyncio.gather(*opening))


async def test_a_hundred_clients_and_a_restart(
    any_redis: RedisServer, project: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """R134: each is given a time of its own; when they all come at once after all, each gets exactly the rest."""
    port, path = free_port(), stage_path(project)
    with (
        running_nginx(tmp_path_factory.mktemp("nginx") / "nginx", [port]) as nginx,
        RedisStreamPublisher(project, "rewrite", bus=any_redis.url) as publisher,
    ):
        async with httpx.AsyncClient(http2=True, verify=nginx.trusting(), base_url=nginx.url, timeout=30) as client:
            with serve_at(port, any_redis.url) as server:
                publisher.publish_token("before ")
                await asyncio.to_thread(publisher.flush)
                async with AsyncExitStack() as stack:
                    streams = await connected(client, stack, path, [""] * CLIENTS)
                    for stream in streams:
                        assert [(await stream.next())["type"] for _ in range(2)] == ["connected", "token"]
                    server.process.send_signal(signal.SIGTERM)
                    assert await asyncio.gather(*(stream.rest() for stream in streams)) == [[]] * CLIENTS
                seen = [stream.stream.last_event_id for stream in streams]
                assert_spread([stream.stream.retry for stream in streams], 500, 3000)
                await asyncio.to_thread(server.exit_code, 10)
            publisher.publish_token("meanwhile ")
            await asyncio.to_thread(publisher.flush)
            async with AsyncExitStack() as stack:
                streams = await connected(client, stack, path, seen)
                assert await asyncio.gather(*(stream.rest() for stream in streams)) == [[]] * CLIENTS
            assert_spread([stream.stream.retry for stream in streams], 1000, 5000)
            with serve_at(port, any_redis.url):
                async with AsyncExitStack() as stack:
                    streams = await connected(client, stack, path, seen)
                    assert await asyncio.to_thread(publisher.publish_done)
                    for stream in streams:
                        connected_, token, done, end = await stream.rest()
                        assert connected_["type"] == "connected"
                        assert (token["content"], token["full_text"]) == ("meanwhile ", "before meanwhile ")
                        assert (done["type"], end["type"]) == ("done", "stream_end")


def assert_spread(times: list[int | None], least: int, most: int) -> None:
    """Milliseconds at random: within the bounds, in each quarter between them, few the same."""
    known = sorted(time for time in times if time is not None)
    assert len(known) == CLIENTS
    assert least <= known[0] <= known[-1] <= most
    quarters = {4 * (time - least) // (most - least + 1) for time in known}
    assert quarters == {0, 1, 2, 3}
    assert len(set(known)) > 20


@pytest.fixture
def hasty_edge(bus: MemoryBus) -> Iterator[Served]:
    """A server that soon takes a client for gone which takes nothing."""
    with served(create_app(bus, settings=EdgeSettings(stall=STALL, heartbeat=0.1))) as server:
        yield server


@pytest.fixture
def nginx(hasty_edge: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with running_nginx(tmp_path_factory.mktemp("nginx") / "nginx", [hasty_edge.port]) as server:
        yield server


async def test_a_frozen_client_is_dropped_and_catches_up(
    hasty_edge: Served, nginx: Nginx, bus: MemoryBus, project: str
) -> None:
    """R132: the server lets a stopped process go; when that goes on and comes back, it ends with the whole text."""
    producer = Producer(Topic(project, "rewrite"))
    path = stage_path(project, query="delta=1")
    command = [sys.executable, "-m", "tests.deploy.frozen", str(nginx.port), str(nginx.certificate), path]
    pieces: list[str] = []

    async def write() -> None:
        pieces.append(f"{len(pieces)}字{'x' * 200_000};")
        await producer.write(bus, pieces[-1])

    with running(command) as child:
        await asyncio.to_thread(wait_until, lambda: "reading" in child.output, 20)
        assert len(viewers_of(hasty_edge, project)) == 1
        os.kill(child.process.pid, signal.SIGSTOP)
        async with asyncio.timeout(20):
            while viewers_of(hasty_edge, project):
                if len(pieces) < 100:
                    await write()
                await asyncio.sleep(0.005)
        await write()
        await producer.send(bus, producer.done(""))
        os.kill(child.process.pid, signal.SIGCONT)
        assert await asyncio.to_thread(child.exit_code, 30) == 0, child.output
    told = json.loads(child.lines[-1])
    assert told["connections"] >= 2
    assert told["digest"] == hashlib.sha256("".join(pieces).encode()).hexdigest()
