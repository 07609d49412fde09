"""A server in a thread gets no signal: its owner, or its end, sends the viewers away."""

import asyncio
import logging
from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.testing.actors import Producer
from stagecast.entrypoints.wiring import CODEC
from tests.sse.browser import request, stage_path
from tests.sse.eventstream import EventStreamParser
from tests.sse.serving import Served, served
from tests.waiting import eventually


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus(CODEC, BusLimits())


def stop(server: Served) -> None:
    server.server.should_exit = True


def drain_and_stop(server: Served) -> None:
    server.app.state.edge.drain()  # type: ignore[attr-defined]
    server.server.should_exit = True


async def test_an_owner_who_drains_first_waits_for_nobody(
    bus: MemoryBus, project: str, caplog: pytest.LogCaptureFixture
) -> None:
    """R114: uvicorn in a thread without any time limit ends at once where its owner calls `drain` before."""
    server = Served(create_app(bus))
    server.start()
    async with request(server.port, stage_path(project)) as browser:
        await browser.next()
        drain_and_stop(server)
        assert await browser.rest() == []
        assert browser.stream.retry is not None
    await asyncio.to_thread(server.stop)
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


async def test_a_server_that_cancels_ends_its_streams_properly(bus: MemoryBus, project: str) -> None:
    """R114: with `should_exit` alone, after uvicorn's `timeout_graceful_shutdown`, clients are told to come back."""
    with served(create_app(bus), timeout_graceful_shutdown=1) as server:
        async with request(server.port, stage_path(project)) as browser:
            await browser.next()
            stop(server)
            assert await browser.rest() == []
            assert browser.ended, "not torn"
            assert browser.stream.retry is not None


class Lifespan:
    """A server that knows the lifespan, and its streams nothing of its end but by that."""

    def __init__(self, app: ASGIApp) -> None:
        self.stream = EventStreamParser()
        self.over = False
        self.events: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.answers: asyncio.Queue[str] = asyncio.Queue()
        self._app = app

    async def run(self) -> None:
        async def send(message: object) -> None:
            assert isinstance(message, dict)
            await self.answers.put(message["type"])

        await self._app({"type": "lifespan", "asgi": {"version": "3.0"}}, self.events.get, send)

    async def get(self, path: str) -> None:
        async def send(message: object) -> None:
            assert isinstance(message, dict)
            self.stream.feed(message.get("body", b""))
            self.over = message["type"] == "http.response.body" and not message.get("more_body")

        scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "query_string": b"", "headers": []}
        await self._app(scope, asyncio.Event().wait, send)  # type: ignore[arg-type]


async def test_the_lifespans_end_ends_streams(bus: MemoryBus, project: str) -> None:
    """R113: a server which says nothing before the lifespan's end has its streams ended, before that is complete."""
    server = Lifespan(create_app(bus))
    running = asyncio.create_task(server.run())
    await server.events.put({"type": "lifespan.startup"})
    assert await server.answers.get() == "lifespan.startup.complete"
    streaming = asyncio.create_task(server.get(stage_path(project)))
    await eventually(lambda: server.stream.events)
    await server.events.put({"type": "lifespan.shutdown"})
    assert await server.answers.get() == "lifespan.shutdown.complete"
    await asyncio.wait_for(streaming, 5)
    assert server.over
    assert server.stream.retry is not None
    await running


class Polling:
    """Somebody's middleware that asks all the time whether the client is gone, and so takes the message away."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Request(scope, receive)

        async def poll() -> None:
            while not await asked.is_disconnected():  # noqa: ASYNC110  # as people do it
                await asyncio.sleep(0.01)

        polling = asyncio.create_task(poll())
        try:
            await self._app(scope, receive, send)
        finally:
            polling.cancel()


async def test_who_else_asks_for_the_disconnect_does_not_matter(bus: MemoryBus, project: str) -> None:
    """R119: 20 streams below code that polls `is_disconnected` are forgotten when their clients go."""
    inner = create_app(bus, settings=EdgeSettings(heartbeat=0.05))
    with served(Polling(inner)) as server:
        for _ in range(20):
            async with request(server.port, stage_path(project)) as browser:
                await browser.next()
        channels = next(iter(inner.state.edge._hubs.values())).channels
        await eventually(lambda: project not in channels or not channels[project].viewers)


def compressing(app: Starlette) -> Starlette:
    return Starlette(routes=[Mount("/", app)], middleware=[Middleware(GZipMiddleware, minimum_size=1)])


@pytest.mark.parametrize("around", [lambda app: app, compressing], ids=["plain", "gzip"])
async def test_headers_and_the_first_message_come_at_once(
    bus: MemoryBus, project: str, around: Callable[[Starlette], Starlette]
) -> None:
    """R121: of a silent task the client hears at once that it is connected; GZipMiddleware leaves streams alone."""
    with served(around(create_app(bus))) as server:
        async with request(server.port, stage_path(project), {"Accept-Encoding": "gzip"}) as browser:
            assert "content-encoding" not in browser.headers
            assert (await browser.next()).message["type"] == "connected"
            await Producer(Topic(project, "rewrite")).write(bus, "a")
            assert (await browser.next()).message["content"] == "a"
