"""The application under other servers, other applications and other event loops than uvicorn's usual ones."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import NotConfigured
from stagecast.domain.topics import Topic
from stagecast.entrypoints import wiring
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.sse.hub import Hub
from stagecast.entrypoints.testing.actors import Producer
from tests.sse.browser import request, stage_path
from tests.sse.eventstream import EventStreamParser
from tests.sse.serving import served
from tests.waiting import eventually

SECONDS = 10.0


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus(wiring.CODEC, BusLimits())


def hub_of(app: Starlette) -> Hub:
    hub: Hub = app.state.edge.hub()
    return hub


class Connection:
    """A request to an application without a server in between."""

    def __init__(self, app: ASGIApp, path: str, *, fails: bool = False, spec: str = "2.4") -> None:
        self.stream = EventStreamParser()
        self.status: int | None = None
        self.over = False
        self.gone = asyncio.Event()
        self.hold: asyncio.Event | None = None
        self._fails = fails
        self._asked = False
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": spec},
            "http_version": "1.1",
            "method": "GET",
            "path": path,
            "root_path": "",
            "query_string": b"",
            "headers": [],
        }
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self.hold is not None:
            await self.hold.wait()
        if self.gone.is_set() and self._fails:
            raise OSError("the client is gone")
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.stream.feed(message["body"])
            self.over = not message.get("more_body", False)


async def until(reached: Callable[[], object | Awaitable[object]]) -> None:
    await eventually(reached, SECONDS)


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
async def test_a_disconnect_is_noticed_on_a_quiet_stream(bus: MemoryBus, spec: str) -> None:
    """R119: by `receive`, whatever the version of the specification says about `send`."""
    app = create_app(bus)
    connection = Connection(app, stage_path("p"), spec=spec)
    await until(lambda: connection.stream.events)
    connection.gone.set()
    await asyncio.wait_for(connection.task, SECONDS)
    assert not hub_of(app).channels["p"].viewers
    await app.state.edge.aclose()


async def test_a_send_that_fails_ends_the_stream_quietly(bus: MemoryBus) -> None:
    """A server may say by an OSError that the client is gone."""
    app = create_app(bus)
    connection = Connection(app, stage_path("p"), fails=True)
    await until(lambda: connection.stream.events)
    connection.hold = asyncio.Event()
    await Producer(Topic("p", "rewrite")).write(bus, "a")
    connection.gone.set()
    connection.hold.set()
    await asyncio.wait_for(connection.task, SECONDS)
    await app.state.edge.aclose()


async def test_a_frozen_client_is_dropped_after_a_while(bus: MemoryBus) -> None:
    """R132, R105: one that takes nothing at all for `stall` seconds is gone; one that takes little is not."""
    app = create_app(bus, settings=EdgeSettings(stall=0.2, heartbeat=0.05))
    frozen, lively = Connection(app, stage_path("p")), Connection(app, stage_path("p"))
    await until(lambda: frozen.stream.events and lively.stream.events)
    frozen.hold = asyncio.Event()
    await asyncio.wait_for(frozen.task, SECONDS)
    assert not frozen.over
    heard = len(lively.stream.comments)
    await until(lambda: len(lively.stream.comments) > heard)
    lively.gone.set()
    await lively.task
    await app.state.edge.aclose()


async def test_a_cancelled_connection_leaves(bus: MemoryBus) -> None:
    """R90: servers cancel what takes too long; nothing is left, no task complains."""
    app = create_app(bus)
    connection = Connection(app, stage_path("p"))
    await until(lambda: connection.stream.events)
    connection.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connection.task
    assert not hub_of(app).channels["p"].viewers
    await app.state.edge.aclose()
    await until(lambda: not [task for task in asyncio.all_tasks() if "stagecast" in repr(task)])


async def test_without_a_lifespan_the_first_request_opens(bus: MemoryBus, project: str) -> None:
    """Daphne has no lifespan, and nobody runs the one of a mounted application."""
    app = Starlette(routes=[Mount("/sub/app", create_app(bus)), Route("/", PlainTextResponse("hello"))])
    with served(app, lifespan="off") as server:
        async with request(server.port, "/sub/app" + stage_path(project)) as browser:
            await browser.next()
            await Producer(Topic(project, "rewrite")).write(bus, "a")
            assert (await browser.next()).message["content"] == "a"
        async with request(server.port, "/sub/app" + stage_path("a%20b")) as response:
            assert response.status == 400
        async with request(server.port, "/sub/app/nothing") as response:
            assert response.status == 404


class Passing(BaseHTTPMiddleware):
    """Middleware as people write it."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-passed"] = "yes"
        return response


@pytest.mark.parametrize("where", ["inside", "around"])
async def test_middleware_neither_delays_nor_leaks(bus: MemoryBus, project: str, where: str) -> None:
    """R117: with a BaseHTTPMiddleware data comes at once, and clients that go leave nothing behind."""
    inner = create_app(bus, settings=EdgeSettings(heartbeat=0.05))
    app: Starlette = inner
    if where == "inside":
        inner.add_middleware(Passing)
    else:
        app = Starlette(routes=[Mount("/", inner)], middleware=[Middleware(Passing)])
    producer = Producer(Topic(project, "rewrite"))
    with served(app) as server:
        for number in range(20):
            async with request(server.port, stage_path(project)) as browser:
                assert browser.headers["x-passed"] == "yes"
                await browser.next()
                await producer.write(bus, f"{number};")
                await browser.until(lambda message, n=number: message.get("content", "").endswith(f"{n};"))  # type: ignore[misc]
                await browser.until_stream(lambda stream: stream.comments)
        hub = next(iter(inner.state.edge._hubs.values()))
        await until(lambda: project not in hub.channels or not hub.channels[project].viewers)


async def test_more_routes_can_be_served(bus: MemoryBus) -> None:
    """`routes` get Starlette's whole treatment: their own errors too."""

    async def fails(_: Request) -> Response:
        raise RuntimeError("on purpose")

    app = create_app(bus, routes=[Route("/more", PlainTextResponse("more")), Route("/fails", fails)])
    with served(app) as server:
        async with request(server.port, "/more") as response:
            assert response.status == 200
        async with request(server.port, "/fails") as response:
            assert response.status == 500


def test_one_application_serves_several_event_loops(bus: MemoryBus) -> None:
    """R115: three loops in turn and two threads at once; nothing is bound to the first loop."""
    app = create_app(bus)

    async def once() -> None:
        connection = Connection(app, stage_path("p"))
        await until(lambda: connection.stream.events)
        connection.gone.set()
        await connection.task
        await app.state.edge.aclose()

    for _ in range(3):
        asyncio.run(once())
    failures: list[BaseException] = []

    def in_thread() -> None:
        try:
            asyncio.run(once())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=in_thread) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


class CountingBus(MemoryBus):
    """Counts how often it is closed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.closings = 0

    async def aclose(self) -> None:
        self.closings += 1
        await super().aclose()


async def test_only_what_was_opened_here_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus that was given stays open, one of a URL is closed with the lifespan, one within the process is shared."""
    given = CountingBus(wiring.CODEC, BusLimits())
    app = create_app(given)
    async with app.router.lifespan_context(app):
        pass
    assert given.closings == 0
    opened: list[CountingBus] = []

    class OtherBus(CountingBus):
        capabilities = MemoryBus.capabilities.__class__()

    def open_bus(url: str) -> CountingBus:
        opened.append(OtherBus(wiring.CODEC, BusLimits()))
        return opened[-1]

    with monkeypatch.context() as patch:
        patch.setattr(wiring, "open_bus", open_bus)
        app = create_app("redis://somewhere")
        for _ in range(2):
            async with app.router.lifespan_context(app):
                pass
    assert [bus.closings for bus in opened] == [1, 1]
    app = create_app("memory://")
    async with app.router.lifespan_context(app):
        assert hub_of(app).bus is wiring.shared_bus("memory://")
    await Producer(Topic("p", "s")).write(wiring.shared_bus("memory://"), "still open")


async def test_a_server_that_cannot_be_configured_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lifespan says what is wrong before anybody connects."""
    monkeypatch.setenv("STAGECAST_BUS", "carrier-pigeon://x")
    app = create_app()
    with pytest.raises(NotConfigured, match="no transport"):
        async with app.router.lifespan_context(app):
            pass


def test_importing_creates_nothing() -> None:
    """Neither a thread, nor a connection, nor an import of Starlette; `app` alone makes an application."""
    code = """if True:
        import sys, threading
        import stagecast.entrypoints.sse as sse
        assert not {"starlette", "uvicorn", "jwt", "redis"} & set(sys.modules)
        from stagecast.entrypoints.sse import app, create_app
        assert sse.app is app and callable(app)
        import stagecast.entrypoints.sse.asgi
        assert sse.app is app
        assert threading.active_count() == 1
        assert not app.state.edge._hubs
        try:
            sse.nonsense
        except AttributeError:
            print("fine")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert (done.stdout, done.stderr) == ("fine\n", "")
