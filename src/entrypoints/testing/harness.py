"""The whole way from a task to a viewer in one process, without a socket: memory bus, eager tasks, SSE application."""

import asyncio
import json
import os
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeAlias
from urllib.parse import quote, unquote

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.domain.topics import Id
from stagecast.entrypoints import wiring
from stagecast.entrypoints.background import background

from .clock import VirtualClock
from .recorder import Message, Recorder

Asgi: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

DEADLINE = 10.0
"""Seconds for whatever must answer at all."""
_VARIABLE = "STAGECAST_BUS"


@contextmanager
def memory_bus(clock: VirtualClock, limits: BusLimits | None = None) -> Iterator[MemoryBus]:
    """A bus of its own on `clock`, which is also what code that names no bus, or memory://, is given in the block."""
    bus = MemoryBus(wiring.CODEC, limits, clock=clock.time, monotonic=clock.monotonic)
    clock.watched_by(bus.look)
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = wiring.IN_PROCESS
    try:
        with wiring.standing_in(bus):
            yield bus
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before
        background().call(bus.aclose(), DEADLINE)


class Viewer(Recorder):
    """A response of the application under test; its messages as they come. Left to itself it is open until it ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop, app: Asgi, scope: dict[str, Any]) -> None:
        super().__init__(self._next)
        self._came = queue.SimpleQueue[Message | None]()
        self._head = Future[Mapping[str, Any]]()
        self._unread = ""
        self.body = b""
        """All of it so far."""
        self._loop, self._app, self._scope = loop, app, scope
        self._gone = asyncio.Event()
        self._running = asyncio.run_coroutine_threadsafe(self._run(), loop)

    @property
    def status(self) -> int:
        """The response's status; waits for it."""
        status: int = self._head.result(DEADLINE)["status"]
        return status

    @property
    def headers(self) -> dict[str, str]:
        """The response's headers, their names in small letters."""
        return {name.decode().lower(): value.decode() for name, value in self._head.result(DEADLINE)["headers"]}

    def read(self) -> bytes:
        """The body of a response that ends."""
        self.assert_ended()
        return self.body

    def assert_ended(self) -> None:
        """The response has come to its end, or does so soon."""
        self._running.result(DEADLINE)

    def close(self) -> None:
        """Go away, as a browser does whose page is closed. Idempotent."""
        self._loop.call_soon_threadsafe(self._gone.set)
        self._running.result(DEADLINE)

    async def _run(self) -> None:
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await self._gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            if self._gone.is_set():
                raise OSError("the viewer is gone")
            if message["type"] == "http.response.start":
                self._head.set_result(message)
            elif message["type"] == "http.response.body":
                self._feed(message.get("body", b""))

        try:
            with suppress(OSError):
                await self._app(self._scope, receive, send)
        except BaseException as error:
            if not self._head.done():
                self._head.set_exception(error)
            raise
        finally:
            self._came.put(None)

    def _feed(self, data: bytes) -> None:
        self.body += bytes(data)
        *blocks, self._unread = (self._unread + bytes(data).decode()).split("\n\n")
        for block in blocks:
            lines = [line[6:] for line in block.splitlines() if line.startswith("data: ")]
            if lines:
                self._came.put(json.loads("\n".join(lines)))

    def _next(self, timeout: float, /) -> Message | None:
        if self._is_over:
            return None
        try:
            message = self._came.get(timeout=timeout) if timeout > 0 else self._came.get_nowait()
        except queue.Empty:
            return None
        self._is_over = message is None
        return message


class Harness:
    """A context: an SSE application in an event loop of its own, in a thread, on a bus that tasks publish to.

    `app` is the application that viewers see: stagecast's own unless another is set before the first of them.
    """

    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        self.app: Asgi | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stagecast-harness")
        self._ending = asyncio.Event()
        self._lifespan: Future[None] | None = None
        self._viewers = list[Viewer]()
        self._eager = list[tuple[Any, dict[str, Any]]]()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for app, conf in self._eager:
            app.conf.update(conf)
        try:
            for viewer in self._viewers:
                viewer.close()
            if self._lifespan is not None:
                self._loop.call_soon_threadsafe(self._ending.set)
                self._lifespan.result(DEADLINE)
        finally:
            asyncio.run_coroutine_threadsafe(_leave(), self._loop).result(DEADLINE)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def eager(self, app: Any) -> None:
        """Let the Celery application execute its tasks where they are sent, publishing to the bus, until the end."""
        settings = {"task_always_eager": True, "stagecast_bus": self.bus}
        self._eager.append((app, {name: app.conf.get(name) for name in settings}))
        app.conf.update(settings)

    def view(self, project: Id, stage: Id | None = None, query: str = "") -> Viewer:
        """A viewer of a stage, or of all of the project's; the stream stands when this returns."""
        path = f"/api/v1/sse/projects/{quote(str(project), safe='')}/"
        viewer = self.get(path + ("" if stage is None else f"stages/{quote(str(stage), safe='')}/"), query)
        assert viewer.status == 200, (viewer.status, viewer.body)
        viewer.wait_for("connected", DEADLINE)
        return viewer

    def get(self, path: str, query: str = "", headers: Mapping[str, str] | None = None) -> Viewer:
        """The response to a GET, from this machine."""
        if self.app is None:
            from stagecast.entrypoints.sse import create_app

            self.app = create_app(self.bus)
        if self._lifespan is None:
            started = threading.Event()
            self._lifespan = asyncio.run_coroutine_threadsafe(self._live(self.app, started), self._loop)
            self._lifespan.add_done_callback(lambda _: started.set())
            assert started.wait(DEADLINE), "the application does not start"
        viewer = Viewer(self._loop, self.app, _scope(path, query, headers or {}))
        self._viewers.append(viewer)
        return viewer

    async def _live(self, app: Asgi, started: threading.Event) -> None:
        """The application's lifespan, where it has one."""
        asked = iter(("startup", "shutdown"))

        async def receive() -> dict[str, Any]:
            event = next(asked)
            if event == "shutdown":
                await self._ending.wait()
            return {"type": f"lifespan.{event}"}

        async def send(message: MutableMapping[str, Any]) -> None:
            assert not message["type"].endswith(".failed"), message.get("message")
            started.set()

        try:
            await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        except Exception:
            if not started.is_set():
                return  # an application without one
            raise


async def _leave() -> None:
    """Cancel what is left in the loop."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


def _scope(path: str, query: str, headers: Mapping[str, str]) -> dict[str, Any]:
    named = {"host": "localhost", **headers}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in named.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
