"""Many streams on few connections to Redis, and on few of the operator's own resources; no key lives for ever."""

import asyncio
import os
import random
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from stagecast.adapters.codec import JsonCodec
from stagecast.adapters.memory import MemoryBus
from stagecast.adapters.redis.bus import open_redis_bus
from stagecast.adapters.redis.state import Keys
from stagecast.domain.access import Access, AccessRequest
from stagecast.domain.bus import BusLimits
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import create_app
from stagecast.entrypoints.testing.actors import Producer
from tests.servers import RedisServer
from tests.sse.browser import API, Response, request, stage_path
from tests.sse.serving import Served, served, viewers_of
from tests.waiting import eventually, wait_until

SECONDS = 30.0
CODEC = JsonCodec()


@pytest.fixture
def connections(any_redis: RedisServer) -> Iterator[Callable[[], int]]:
    """How many stagecast has made since the test began."""
    with any_redis.client() as client:
        others = {one["id"] for one in client.client_list()}
        yield lambda: sum(one["name"] == "stagecast" and one["id"] not in others for one in client.client_list())


async def opened(stack: AsyncExitStack, server: Served, paths: list[str]) -> list[Response]:
    """Streams that are all asked for at once, each with its first message read."""

    async def opening(path: str) -> Response:
        response = await stack.enter_async_context(request(server.port, path, {"Accept": "text/event-stream"}))
        assert (await response.next()).message["type"] == "connected"
        return response

    return list(await asyncio.gather(*map(opening, paths)))


@pytest.mark.parametrize("most", [1, 10])
async def test_streams_hold_no_connection_of_the_pool(
    any_redis: RedisServer, connections: Callable[[], int], project: str, most: int
) -> None:
    """R99, R100: 50 at once are served by a pool of one or ten; news, health and cancelling come through besides."""
    projects = [f"{project}-{number}" for number in range(50)]
    bus = open_redis_bus(any_redis.url, CODEC, BusLimits())
    with served(create_app(f"{any_redis.url}?max_connections={most}")) as server:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(bus.aclose)
            viewers = await opened(stack, server, [stage_path(one) for one in projects])
            assert connections() <= most + 1, "the pool and the feed"
            for path in ("/healthz", "/readyz"):
                async with request(server.port, path) as response:
                    assert response.status == 200
            for one, viewer in zip(projects, viewers, strict=True):
                await Producer(Topic(one, "rewrite")).write(bus, "a")
                assert (await viewer.next()).message["content"] == "a"
            path = f"{API.replace('/sse', '')}/{projects[0]}/stages/rewrite/cancel"
            async with request(server.port, path, method="POST") as response:
                assert response.status == 202


async def test_two_hundred_viewers_of_one_stage(
    any_redis: RedisServer, connections: Callable[[], int], project: str
) -> None:
    """R102: they share one subscription and three connections."""
    with served(create_app(any_redis.url)) as server, any_redis.client() as client:
        async with AsyncExitStack() as stack:
            await opened(stack, server, [stage_path(project)] * 200)
            assert len(viewers_of(server, project)) == 200
            feed = Keys(project).feed
            assert client.pubsub_numsub(feed) == [(feed.encode(), 1)]
            assert connections() <= 3


class Pooled:
    """An access policy that needs one of five resources for each decision."""

    def __init__(self) -> None:
        self.asked = self.used = self.most = 0
        self.decides = asyncio.Event()
        self._free = asyncio.Semaphore(5)

    async def authorize(self, request: AccessRequest) -> Access:
        self.asked += 1
        async with self._free:
            self.used += 1
            self.most = max(self.most, self.used)
            try:
                await self.decides.wait()
            finally:
                self.used -= 1
        return Access(principal=request.project)


async def test_a_policy_has_its_resources_back_before_the_stream(project: str) -> None:
    """R110: with five of them twenty streams are open at once; who leaves while it is decided on takes none along."""
    policy, bus = Pooled(), MemoryBus(CODEC)
    path = stage_path(project) + "stream/"
    asked = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with served(create_app(bus, policy)) as server:
        async with AsyncExitStack() as stack:
            opening = asyncio.create_task(opened(stack, server, [path] * 20))
            await eventually(lambda: policy.asked == 20, SECONDS)
            for _ in range(10):
                with socket.create_connection(("127.0.0.1", server.port)) as leaving:
                    leaving.sendall(asked)
                    leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await eventually(lambda: policy.asked > 20, SECONDS)
            server.loop.call_soon_threadsafe(policy.decides.set)
            viewers = await opening
            assert (policy.most, policy.used) == (5, 0)
            await Producer(Topic(project, "rewrite")).write(bus, "a")
            for viewer in viewers:
                assert (await viewer.next()).message["content"] == "a"
            await eventually(lambda: len(viewers_of(server, project)) == 20, SECONDS)


def test_no_key_outlives_a_killed_publisher_for_ever(any_redis: RedisServer, project: str) -> None:
    """R109: whenever a publisher is killed, what it wrote has an end: writing and expiry are one step."""
    dice = random.Random(9)
    command = [sys.executable, "-m", "tests.faults.mortal", any_redis.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as forking:
        assert forking.stdin is not None
        assert forking.stdout is not None
        with any_redis.client() as client:
            for number in range(20):
                print(f"{project}-{number}", file=forking.stdin, flush=True)
                child = int(forking.stdout.readline())
                key = Keys(f"{project}-{number}").log
                wait_until(lambda key=key: client.exists(key), SECONDS)  # type: ignore[misc]
                moment = dice.randint(1, 20)
                wait_until(lambda key=key, least=moment: int(client.xlen(key)) >= least, SECONDS)  # type: ignore[misc]
                os.kill(child, signal.SIGKILL)
                left = {key: client.pttl(key) for key in client.scan_iter("*", count=1000)}
                assert len(left) >= 4
                assert -1 not in left.values(), left
        forking.stdin.close()
        assert forking.wait(SECONDS) == 0
