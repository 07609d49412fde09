"""Whatever happens to Redis or on the way to it in mid-stream: a living publisher's viewers end with the exact text.

One scenario, a table of faults. Texts are rebuilt from token messages alone.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from attrs import field, frozen

from stagecast import RedisStreamPublisher
from stagecast.adapters.redis.bus import RedisBus, open_redis_bus
from stagecast.adapters.redis.settings import ConnectionSettings
from stagecast.adapters.redis.state import Keys
from stagecast.domain.bus import BusLimits
from stagecast.domain.positions import Position
from stagecast.entrypoints.background import background
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.wiring import CODEC
from tests.faults.proxy import Proxy
from tests.reading import rebuilt
from tests.servers import RedisServer, available_redis_kinds, start_redis
from tests.sse.browser import Response, project_path, request, stage_path
from tests.sse.serving import served
from tests.sse.texts import from_deltas
from tests.waiting import eventually

LIMITS = BusLimits(lease=8)
IMPATIENT = ConnectionSettings(connect_timeout=1, command_timeout=1)
OUTAGE = 2.5
"""Seconds: longer than a command waits, shorter than a lease."""


@frozen
class Scene:
    """What a fault can break."""

    server: RedisServer
    proxy: Proxy
    project: str
    published: list[str] = field(factory=list)

    async def goes_on(self, count: int = 20) -> None:
        """Wait until the publisher has accepted `count` more tokens."""
        target = len(self.published) + count
        await eventually(lambda: len(self.published) >= target)

    async def ask(self, *command: str) -> Any:
        """Redis's answer to a command, sent past the proxy."""

        def asked() -> Any:
            with self.server.client() as client:
                return client.execute_command(*command)

        return await asyncio.to_thread(asked)


async def black_hole(scene: Scene) -> None:
    """R13, R151: nothing passes for a while, then what was held comes at once."""
    scene.proxy.black_hole()
    await asyncio.sleep(OUTAGE)
    assert scene.proxy.held
    scene.proxy.heal()


async def half_open(scene: Scene) -> None:
    """R13: the server's ends are gone, and only our own timeouts can tell."""
    scene.proxy.half_open()
    await asyncio.sleep(OUTAGE)
    await eventually(lambda: scene.proxy.silenced, 10)  # somebody has noticed
    scene.proxy.heal()


async def cuts(scene: Scene) -> None:
    """R15, R16, R21: all connections are torn, again and again, also while they are being made."""
    cut = 0
    for number in range(8):
        cut += scene.proxy.cut(reset=number % 2 == 0)
        await scene.goes_on(15)
    assert cut > 4


async def delays(scene: Scene) -> None:
    """Each piece of data is late in both directions."""
    scene.proxy.delay_up = scene.proxy.delay_down = 0.2
    await scene.goes_on(100)
    scene.proxy.delay_up = scene.proxy.delay_down = 0.0


async def pause(scene: Scene) -> None:
    """R13: the process is frozen for two seconds."""
    scene.server.pause()
    await asyncio.sleep(2)
    scene.server.resume()


async def flush(scene: Scene) -> None:
    """R16: all data is gone, the connections stay."""
    for _ in range(3):
        await scene.ask("FLUSHALL")
        await scene.goes_on()


async def kill_feed(scene: Scene) -> None:
    """R11, R15: the feed is killed, again as soon as it is back."""
    killed = 0
    for _ in range(3):
        killed += await eventually(lambda: scene.ask("CLIENT", "KILL", "TYPE", "pubsub"), 10)
    assert killed >= 3
    await scene.goes_on()


async def kill_commands(scene: Scene) -> None:
    """R15: all connections for commands are killed, again and again."""
    killed = 0
    for _ in range(5):
        killed += await scene.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await scene.goes_on()
    assert killed >= 5


async def overflow(scene: Scene) -> None:
    """R103: the feed's reader stalls and Redis drops it for its output buffer."""
    await scene.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 64kb 32kb 1")
    scene.proxy.black_hole()
    for _ in range(2000):
        if not await scene.ask("PUBLISH", Keys(scene.project).feed, "x" * 100_000):
            break
    else:
        pytest.fail("Redis has kept the reader")
    scene.proxy.heal()
    await scene.goes_on()


async def crash(scene: Scene) -> None:
    """R10, R16: Redis is killed, twice, and comes back with what its disk has, if anything."""
    for _ in range(2):
        await asyncio.to_thread(scene.server.kill)
        await scene.goes_on()
        await asyncio.to_thread(scene.server.start)
        await scene.goes_on(100)


@frozen
class Fault:
    inject: Callable[[Scene], Awaitable[None]]
    behind: str = ""
    """Who is behind the proxy: publisher, server, or both."""
    persistence: bool = False

    def __str__(self) -> str:
        words = [self.inject.__name__, self.behind, "aof" if self.persistence else ""]
        return "-".join(word for word in words if word)


FAULTS = [
    *(Fault(inject, behind) for inject in (black_hole, half_open, cuts) for behind in ("publisher", "server", "both")),
    Fault(delays, "both"),
    Fault(overflow, "server"),
    *map(Fault, (pause, flush, kill_feed, kill_commands, crash)),
    Fault(crash, persistence=True),
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_viewers_of_a_living_publisher_end_with_its_exact_text(fault: Fault) -> None:
    """R10, R11, R13, R15, R16, R21, R103, R151: nothing is lost, nothing comes twice, the publisher sees no failure."""
    async with _stage_set(fault) as (scene, publisher_bus, port):
        publisher = RedisStreamPublisher(scene.project, "rewrite", bus=publisher_bus, timeout=20)
        with publisher:
            assert publisher.publish_stage_update("processing")
            assert await asyncio.to_thread(publisher.flush)
            async with (
                request(port, stage_path(scene.project)) as whole,
                request(port, project_path(scene.project, "delta=1")) as delta,
            ):
                viewers = [asyncio.create_task(each.until_type("done", "error")) for each in (whole, delta)]
                is_over = asyncio.Event()
                publishing = asyncio.create_task(_publish(publisher, scene.published, is_over))
                await scene.goes_on()
                await fault.inject(scene)
                await scene.goes_on()
                is_over.set()
                await publishing
                assert await asyncio.to_thread(publisher.publish_done)
                messages, deltas = await asyncio.gather(*viewers)
                async with request(port, stage_path(scene.project)) as late:
                    assert rebuilt(await late.until_type("done", "error")) == publisher.text
                assert {messages[-1]["type"], deltas[-1]["type"]} == {"done"}
                assert rebuilt(messages) == from_deltas(deltas) == publisher.text == "".join(scene.published)
                _assert_rising(whole)
                _assert_rising(delta)


async def _publish(publisher: RedisStreamPublisher, published: list[str], is_over: asyncio.Event) -> None:
    while not is_over.is_set():
        piece = f"{len(published)}字😀 "
        assert publisher.publish_token(piece)
        published.append(piece)
        await asyncio.sleep(0.004)


def _assert_rising(viewer: Response) -> None:
    """No token comes twice: each has a position after the one before, or is in the midst of a snapshot and has none."""
    tokens = [event.own_id for event in viewer.stream.events if event.message["type"] == "token"]
    positions = [Position.parse(id_) for id_ in tokens if id_]
    assert len(positions) > 20
    assert all(before < after for before, after in pairwise(positions))


@asynccontextmanager
async def _stage_set(fault: Fault) -> AsyncIterator[tuple[Scene, RedisBus, int]]:
    """A Redis, a proxy before it, the publisher's bus and the port of an SSE server."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(start_redis(available_redis_kinds()[0], persistence=fault.persistence))
        proxy = stack.enter_context(Proxy(server.port))

        def bus(name: str) -> RedisBus:
            url = proxy.url if fault.behind in {name, "both"} else server.url
            return open_redis_bus(url, CODEC, LIMITS, IMPATIENT)

        publisher_bus, server_bus = bus("publisher"), bus("server")
        running = stack.enter_context(served(create_app(server_bus, settings=EdgeSettings())))
        stack.push_async_callback(server_bus.aclose)
        stack.callback(lambda: background().call(publisher_bus.aclose(), 5))
        yield Scene(server, proxy, f"p-{uuid4().hex[:12]}"), publisher_bus, running.port
