"""The scene of the fault tests: a Redis, a proxy before it, a publisher, an SSE server, and viewers of every kind."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

from attrs import field, frozen

from stagecast import RedisStreamPublisher, RedisStreamSubscriber
from stagecast.adapters.redis.bus import RedisBus, open_redis_bus
from stagecast.adapters.redis.settings import ConnectionSettings
from stagecast.domain.bus import BusLimits
from stagecast.domain.positions import Position
from stagecast.entrypoints.background import background
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.wiring import CODEC
from tests.faults.proxy import Proxy
from tests.faults.writer import PACE, Writer, piece_of, writing
from tests.servers import RedisKind, RedisServer, available_redis_kinds, start_redis
from tests.sse.browser import Response, request
from tests.sse.eventstream import Dispatched, Message
from tests.sse.serving import served
from tests.waiting import eventually

LIMITS = BusLimits(lease=8)
IMPATIENT = ConnectionSettings(connect_timeout=1, command_timeout=1)
SETTINGS = EdgeSettings(heartbeat=3, patience=0.8)
"""Heartbeats come well within the time that a test waits for the next bytes of a stream."""
STREAM = {"Accept": "text/event-stream"}
SECONDS = 90.0


@frozen
class Scene:
    """What a fault can break."""

    server: RedisServer
    proxy: Proxy
    project: str
    published: list[str] = field(factory=list)
    writer: Writer | None = None
    """The publisher's process; None where the test itself publishes."""

    @property
    def handed_over(self) -> Sequence[str]:
        """The pieces that the publisher has accepted."""
        return self.published if self.writer is None else self.writer.journal

    async def goes_on(self, count: int = 20) -> None:
        """Wait until the publisher has accepted `count` more tokens."""
        target = len(self.handed_over) + count
        await eventually(lambda: len(self.handed_over) >= target, 20)

    async def ask(self, *command: str) -> Any:
        """Redis's answer to a command, sent past the proxy."""

        def asked() -> Any:
            with self.server.client() as client:
                return client.execute_command(*command)

        return await asyncio.to_thread(asked)


@frozen
class Fault:
    """What happens in mid-stream, to whom."""

    inject: Callable[[Scene], Coroutine[Any, Any, None]]
    behind: str = ""
    """Who is behind the proxy: publisher, server, or both."""
    persistence: bool = False
    kind: RedisKind | None = None
    """Of the server; None for the first that this machine has."""
    apart: bool = False
    """Whether the publisher has a process of its own."""

    def __str__(self) -> str:
        words = [self.inject.__name__, self.behind, "aof" if self.persistence else "", self.kind or ""]
        return "-".join(word for word in [*words, "apart" if self.apart else ""] if word)


class Backup:
    """What a server has on its disk, to be put back."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self._server, self._folder = server, folder

    async def take(self, scene: Scene) -> None:
        """Copy the dump, or the append-only file, as it is now."""
        if not (self._server.folder / "appendonlydir").exists():
            await scene.ask("SAVE")
        shutil.copytree(self._server.folder, self._folder)

    async def restore(self) -> None:
        """Kill the server and start it with what it had then."""
        await asyncio.to_thread(self._server.kill)
        shutil.rmtree(self._server.folder / "appendonlydir", ignore_errors=True)
        shutil.copytree(self._folder, self._server.folder, dirs_exist_ok=True)
        await asyncio.to_thread(self._server.start)


@asynccontextmanager
async def stage_set(
    fault: Fault, limits: BusLimits = LIMITS, settings: EdgeSettings = SETTINGS
) -> AsyncIterator[tuple[Scene, RedisBus, int]]:
    """The scene, a bus for what the test itself publishes or reads, and the port of an SSE server."""
    async with AsyncExitStack() as stack:
        kind = fault.kind or available_redis_kinds()[0]
        server = stack.enter_context(start_redis(kind, persistence=fault.persistence))
        proxy = stack.enter_context(Proxy(server.port))

        def url(name: str) -> str:
            return proxy.url if fault.behind in {name, "both"} else server.url

        own_bus = open_redis_bus(url("publisher"), CODEC, limits, IMPATIENT)
        server_bus = open_redis_bus(url("server"), CODEC, limits, IMPATIENT)
        running = stack.enter_context(served(create_app(server_bus, settings=settings)))
        stack.push_async_callback(server_bus.aclose)
        stack.callback(lambda: background().call(own_bus.aclose(), 5))
        project = f"p-{uuid4().hex[:12]}"
        writer = None
        if fault.apart:
            writer = stack.enter_context(write(url("publisher"), project, limits))
        yield Scene(server, proxy, project, writer=writer), own_bus, running.port


def write(url: str, project: str, limits: BusLimits) -> Any:
    """A writer in a process of its own (`tests.faults.writer`), as impatient as all others in the scene."""
    return writing(
        url,
        project,
        STAGECAST_LIMITS_LEASE=str(limits.lease),
        STAGECAST_REDIS_CONNECT_TIMEOUT=str(IMPATIENT.connect_timeout),
        STAGECAST_REDIS_COMMAND_TIMEOUT=str(IMPATIENT.command_timeout),
    )


@asynccontextmanager
async def published(scene: Scene, bus: RedisBus) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """A stage that is being published: by the writer where there is one, else here. Yields what ends it with `done`.

    That gives the text, once the bus has acknowledged all of it.
    """
    if scene.writer is not None:
        await scene.writer.begun()
        writer = scene.writer

        async def finish() -> str:
            await writer.finish()
            return writer.text

        yield finish
        return
    publisher = RedisStreamPublisher(scene.project, "rewrite", bus=bus, timeout=20)
    with publisher:
        assert publisher.publish_stage_update("processing")
        assert await asyncio.to_thread(publisher.flush)
        is_over = asyncio.Event()
        publishing = asyncio.create_task(_publish(publisher, scene.published, is_over))

        async def finish() -> str:
            is_over.set()
            await publishing
            assert await asyncio.to_thread(publisher.publish_done)
            assert publisher.text == "".join(scene.published)
            return publisher.text

        yield finish


async def _publish(publisher: RedisStreamPublisher, pieces: list[str], is_over: asyncio.Event) -> None:
    while not is_over.is_set():
        piece = piece_of(len(pieces))
        assert publisher.publish_token(piece)
        pieces.append(piece)
        await asyncio.sleep(PACE)


def assert_rising(viewer: Response) -> None:
    """No token comes twice: each has a position after the one before, or is in the midst of a snapshot and has none."""
    tokens = [event.own_id for event in viewer.stream.events if event.message["type"] == "token"]
    positions = [Position.parse(id_) for id_ in tokens if id_]
    assert len(positions) > 20
    assert all(before < after for before, after in pairwise(positions))


class Visitor:
    """Comes as a browser's EventSource does, and again from where it was, until it has seen the end."""

    def __init__(self, port: int, path: str, *, stay: float | None = None, times: int = 1000) -> None:
        """With `stay` it leaves by itself after so many seconds, so many times."""
        self.messages: list[Message] = []
        self.visits = 0
        self.seen = ""
        self._port, self._path = port, path
        self._stay, self._times = stay, times

    async def watch(self, *ends: str) -> list[Message]:
        """Everything up to the first message of a type in `ends`, over all visits."""
        async with asyncio.timeout(SECONDS):
            while not self.messages or self.messages[-1]["type"] not in ends:
                self.visits += 1
                resumed = {"Last-Event-ID": self.seen} if self.seen else {}
                async with request(self._port, self._path, {**STREAM, **resumed}) as response:
                    assert response.status == 200, "an EventSource is dead after anything else"
                    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
                    stay = self._stay if self.visits <= self._times else None
                    with suppress(TimeoutError) if stay else nullcontext():
                        async with asyncio.timeout(stay):
                            await self._visit(response, ends)
                    if response.ended and not response.stream.events:  # refused for now
                        assert response.stream.retry is not None
                await asyncio.sleep(0.05)
        return self.messages

    async def _visit(self, response: Response, ends: Sequence[str]) -> None:
        taken = 0
        while True:
            events = response.stream.events
            while taken < len(events):
                event: Dispatched = events[taken]
                taken += 1
                self.messages.append(event.message)
                if event.message["type"] in ends:
                    return
                if event.own_id is not None:
                    self.seen = event.own_id
            try:
                if not await response.read_more():
                    return
            except (asyncio.IncompleteReadError, ConnectionError, ValueError):  # or no chunk where one must begin
                return


async def listened(project: str, bus: RedisBus | str, standing: asyncio.Event, timeout: float = SECONDS) -> list[Any]:
    """What a Python subscriber gets of the stage up to its end; `standing` is set once it is subscribed."""
    loop = asyncio.get_running_loop()

    def listen() -> list[Any]:
        with RedisStreamSubscriber(project, "rewrite", bus=bus, timeout=10) as subscriber:
            loop.call_soon_threadsafe(standing.set)
            return list(subscriber.listen(timeout))

    return await asyncio.to_thread(listen)
