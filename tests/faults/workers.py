"""What worker faults are tried on: Redis, an SSE server, workers, and viewers who watch one stage in different ways."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from attrs import Factory, define
from celery import Celery
from celery.result import AsyncResult
from kombu import Connection
from starlette.applications import Starlette

from stagecast.domain.bus import BusLimits, MessageBus
from stagecast.entrypoints.background import background
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.wiring import open_bus
from tests.celery.app import tasks_of
from tests.celery.conftest import Worker, running_worker
from tests.faults import tasks
from tests.reading import Message, rebuilt
from tests.servers import RedisServer, available_redis_kinds, start_redis
from tests.sse.browser import Response, request, stage_path
from tests.sse.serving import Served, served
from tests.sse.texts import from_deltas
from tests.waiting import wait_until

SECONDS = 60.0
"""After which a viewer has waited for ever."""
HEARTBEAT = 0.3
ENDS = ("done", "error")


@define(eq=False)
class Site:
    """A Redis, a server before it, and an app that sends tasks to the workers of its queue."""

    redis: RedisServer
    server: Served
    limits: BusLimits
    bus: MessageBus
    app: Celery
    tasks: Any

    @contextmanager
    def worker(self, *arguments: str, pool: str = "prefork", **environment: str) -> Iterator[Worker]:
        """A worker of the queue, which is ready; killed at the end, for a shutdown takes seconds."""
        environment["STAGECAST_LIMITS_QUEUE_DEADLINE"] = str(self.limits.queue_deadline)
        lease, queue = self.limits.lease, self.app.conf.task_default_queue
        with running_worker(
            self.redis.url, pool, *arguments, lease=lease, module=tasks, queue=queue, **environment
        ) as started:
            try:
                yield started
            finally:
                if started.process.poll() is None:
                    send(family(started.process.pid), signal.SIGKILL)

    def redeliver(self) -> None:
        """Do what a worker does with messages whose visibility timeout is over: deliver them again."""
        with Connection(self.redis.url, transport_options={"visibility_timeout": 0}) as connection:
            channel: Any = connection.default_channel
            channel.qos.restore_visible(interval=1)

    def assert_nothing_lives_for_ever(self, project: str) -> None:
        """Each key of the project expires, and nobody holds a lease."""
        with self.redis.client() as client:
            keys: list[Any] = list(client.scan_iter(f"stagecast:*{{{project}}}*"))
            assert keys
            assert [key for key in keys if client.pttl(key) < 0] == []
            assert [key for key in keys if key.endswith(b":leases") and client.hlen(key)] == []


@contextmanager
def site(limits: BusLimits, *redis_arguments: str) -> Iterator[Site]:
    """The parts but for workers. Heartbeats are quick: none of them may pass for a sign of life of a task."""
    with start_redis(available_redis_kinds()[0], extra_args=redis_arguments) as redis:
        bus = open_bus(redis.url, limits)
        app = tasks.make_app(redis.url, f"queue-{uuid4().hex}", bus)
        edge = create_app(bus, settings=EdgeSettings(heartbeat=HEARTBEAT))
        with served(edge) as server:
            try:
                yield Site(redis, server, limits, bus, app, tasks_of(app))
            finally:
                app.close()
                asyncio.run_coroutine_threadsafe(_close(edge, bus), server.loop).result(SECONDS)
                background().call(bus.aclose(), SECONDS)


async def _close(edge: Starlette, bus: MessageBus) -> None:
    await edge.state.edge.aclose()
    await bus.aclose()


@define
class Viewer:
    """Watches a stage as a page with an EventSource does; comes back with its last id where `tears` tore its line."""

    port: int
    path: str
    tears: Callable[[Message], object] = lambda message: False
    messages: list[Message] = Factory(list)
    connections: int = 0
    _last_id: str = ""
    _response: Response | None = None

    async def watch(self, *ends: str) -> None:
        """Follow to a message of one of the types `ends`."""
        async with asyncio.timeout(SECONDS):
            while not await self._follow(ends):
                pass

    async def _follow(self, ends: tuple[str, ...]) -> bool:
        self.connections += 1
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        async with request(self.port, self.path, headers) as response:
            self._response = response
            assert response.status == 200, "the stage has ended, and its end was not shown"
            while True:
                event = await response.next()
                self._last_id = event.last_event_id
                self.messages.append(event.message)
                if event.message["type"] in ends:
                    return True
                if self.connections == 1 and self.tears(event.message):
                    return False

    @property
    def text(self) -> str:
        """What the tokens since the last reset make. A reset must begin the text anew: no attempt goes on another's."""
        resets = [number for number, message in enumerate(self.messages) if message["type"] == "reset"]
        rest = [dict(message) for message in self.messages[resets[-1] if resets else 0 :]]
        return from_deltas(rest) if "delta=1" in self.path else rebuilt(rest)

    @property
    def heartbeats(self) -> int:
        """On this connection so far."""
        return len(self._response.stream.comments) if self._response else 0

    @property
    def end(self) -> Message:
        return self.messages[-1]


@define(eq=False)
class Show:
    """One run of a stage and all who watch it."""

    site: Site
    project: str
    folder: Path
    early: Viewer
    """Was there before the task was sent, and gets whole texts."""
    crowd: list[Viewer]
    watching: "list[asyncio.Task[None]]"
    ends: tuple[str, ...]

    @property
    def arguments(self) -> tuple[str, str]:
        """Of a task of `tests.faults.tasks`."""
        return self.project, str(self.folder)

    async def reaches(self, what: Callable[[Message], object], viewer: Viewer | None = None) -> Message:
        """The first message for which `what` is true, once a viewer (the early one) has it."""
        seen = (viewer or self.early).messages

        def found() -> Message | None:
            return next((message for message in seen if what(message)), None)

        return await asyncio.to_thread(lambda: wait_until(found, SECONDS)) or {}

    async def process(self, attempt: int = 1) -> int:
        """The process that executes the attempt, once it is in the middle of its text and everybody watches."""

        def has_begun(message: Message) -> bool:
            return message.get("item_type") == "process" and message["sequence_number"] == attempt

        message = await self.reaches(has_begun)
        if len(self.crowd) < 4:
            self._add(Viewer(self.site.server.port, stage_path(self.project)))  # comes late
            await self.reaches(lambda one: one["type"] == "item_completed", self.crowd[-1])
        pid: int = message["metadata"]["pid"]
        return pid

    def opens(self, gate: str = "go", fault: str = "") -> None:
        """Let the task go on, with a fault of `tests.faults.tasks.FAULTS`."""
        hidden = self.folder / f".{gate}"
        hidden.write_text(fault)
        hidden.rename(self.folder / gate)

    async def ended(self) -> list[Message]:
        """The end that each viewer has seen, once all have one."""
        await asyncio.gather(*self.watching)
        return [viewer.end for viewer in self.crowd]

    async def fresh(self) -> Viewer:
        """One who comes after the end."""
        viewer = Viewer(self.site.server.port, stage_path(self.project, query="replay=latest"))
        await viewer.watch(*ENDS)
        return viewer

    def _add(self, viewer: Viewer) -> None:
        self.crowd.append(viewer)
        self.watching.append(asyncio.create_task(viewer.watch(*self.ends)))


@asynccontextmanager
async def show(site: Site, folder: Path, *ends: str) -> AsyncIterator[Show]:
    """A stage of a new project with its first three viewers, each of whom follows to one of `ends` (done, error)."""
    project = f"p-{uuid4().hex[:12]}"
    folder = folder / project
    folder.mkdir()
    early = Viewer(site.server.port, stage_path(project))
    made = Show(site, project, folder, early, [], [], ends or ENDS)
    made._add(early)
    made._add(Viewer(site.server.port, stage_path(project, query="delta=1")))
    made._add(Viewer(site.server.port, stage_path(project), lambda message: message["type"] == "token"))
    try:
        for viewer in made.crowd:
            await made.reaches(lambda message: message["type"] == "connected", viewer)
        yield made
    finally:
        for task in made.watching:
            task.cancel()
        await asyncio.gather(*made.watching, return_exceptions=True)
        for gate in ("go", "silent"):
            (folder / gate).touch()  # nothing of a failed test stays in the worker


def family(pid: int) -> list[int]:
    """The processes below `pid`, and itself."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*"):
            found += map(int, (task / "children").read_text().split())
    return found


def is_gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody has waited for counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def send(pids: list[int], signal_number: int) -> None:
    for pid in pids:
        os.kill(pid, signal_number)


async def got(result: AsyncResult[str]) -> str:
    """The text that the task has returned."""
    return await asyncio.to_thread(result.get, SECONDS)


def is_text(text: str, attempt: int = 1) -> bool:
    """Whether it is the first tokens of an attempt, without a hole."""
    return bool(text) and text == tasks.words(attempt, text.count("😀"))
