"""A state machine: random publishers, repeated batches, losses of everything, and viewers that come, go and resume.

After any history, every viewer's fold of what it was delivered is the state that a newcomer is given, and the text of
each stage is what its living writer published, rebuilt from tokens alone.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from typing import Any, TypeVar, cast
from uuid import uuid4

import pytest
from attrs import Factory, define
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from stagecast.domain.bus import Batch, BusLimits, Capabilities, MessageBus, Opened, Opening, Receipt, Subscription
from stagecast.domain.positions import Position
from stagecast.domain.producing import TaskRun
from stagecast.domain.publishing import StagePublisher
from stagecast.domain.topics import Topic
from stagecast.entrypoints.testing.actors import CODEC, Reader, reading, shown, snapshot
from stagecast.entrypoints.testing.backend import Backend
from tests.contract.memory import MemoryBackend
from tests.contract.test_redis import FakeBackend, ServerBackend
from tests.servers import RedisServer

T = TypeVar("T")

LIMITS = BusLimits(log_length=64, lease=60.0)
"""A short log, so that some viewers come back too late; no lease lapses here."""
STAGES = st.sampled_from(["one", "two"])
PIECES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), min_size=1, max_size=30)


class Recording:
    """The bus, which also remembers each producer's last batch: a network may deliver that once more."""

    def __init__(self, bus: MessageBus) -> None:
        self.last: dict[str, Batch] = {}
        self._bus = bus

    @property
    def capabilities(self) -> Capabilities:
        return self._bus.capabilities

    @property
    def limits(self) -> BusLimits:
        return self._bus.limits

    async def publish(self, batch: Batch) -> Receipt:
        self.last[batch.producer] = batch
        return await self._bus.publish(batch)

    async def open_run(self, opening: Opening) -> Opened:
        await self._bus.open_run(opening)
        return await self._bus.open_run(opening)

    async def cancel(self, topic: Topic, run: str) -> bool:
        return await self._bus.cancel(topic, run)

    def subscribe(self, topic: Topic, after: Position | None = None) -> AbstractAsyncContextManager[Subscription]:
        return self._bus.subscribe(topic, after)

    async def aclose(self) -> None:
        await self._bus.aclose()


@define(eq=False)
class Worker:
    """A publisher and the task that delivers for it."""

    publisher: StagePublisher
    delivering: asyncio.Task[None]
    items: set[int] = Factory(set)


@define(eq=False)
class Viewer:
    """A reader, now or formerly."""

    topic: Topic
    reader: Reader
    stack: AsyncExitStack


@define
class Stage:
    """What the test knows of a stage."""

    writer: Worker | None = None
    helpers: list[Worker] = Factory(list)
    task: TaskRun | None = None
    text: str | None = ""
    """The text that everybody must be shown; None where nobody can tell."""
    is_over: bool = True


class BusMachine(RuleBasedStateMachine):
    """Drives one backend from outside its event loop."""

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.backend = backend
        self.bus = Recording(self.run(backend.open(LIMITS)))
        self.project = uuid4().hex
        self.stages = {"one": Stage(), "two": Stage()}
        self.viewers: list[Viewer] = []
        self.gone: list[tuple[Topic, Reader]] = []
        self.count = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @rule(name=STAGES, as_task=st.booleans())
    def begin_run(self, name: str, as_task: bool) -> None:
        """A new run supersedes what the stage had; a plain publisher would join a run that is not over."""
        stage = self.stages[name]
        is_task = as_task or not stage.is_over
        stage.task = TaskRun(run=uuid4().hex, task="task") if is_task else None
        self._replace_writer(name)
        for helper in stage.helpers:
            self.run(_retire(helper))
        stage.helpers.clear()

    @precondition(lambda self: any(stage.task and stage.writer for stage in self.stages.values()))
    @rule(name=STAGES)
    def retry(self, name: str) -> None:
        """A new attempt of the writer's task begins the text anew and fences the writer."""
        stage = self.stages[name]
        if stage.task is None or stage.writer is None:
            return
        stage.task = TaskRun(run=stage.task.run, task=stage.task.task)
        self._replace_writer(name)

    @rule(name=STAGES, pieces=PIECES)
    def write(self, name: str, pieces: list[str]) -> None:
        """The writer goes on; a plain one begins the next run after an end."""
        stage = self.stages[name]
        if stage.writer is None or (stage.is_over and stage.task):
            return
        if stage.is_over:
            self._next_run(stage)
        for piece in pieces:
            assert stage.writer.publisher.publish_token(piece)
        stage.text = stage.writer.publisher.text

    @rule(name=STAGES, pieces=PIECES)
    def write_anew(self, name: str, pieces: list[str]) -> None:
        """The writer starts over in the middle of its run: `full_text` says so."""
        stage = self.stages[name]
        if stage.writer is None or stage.is_over:
            return
        text = "".join(pieces)
        assert stage.writer.publisher.publish_token(pieces[-1], text)
        stage.text = stage.writer.publisher.text

    @rule(name=STAGES, number=st.integers(0, 5))
    def complete_item(self, name: str, number: int) -> None:
        """Every producer of the stage completes an item of its own."""
        stage = self.stages[name]
        for index, worker in enumerate(self._workers(stage)):
            assert worker.publisher.publish_item_completed(f"kind{index}", number)

    @rule(name=STAGES)
    def join(self, name: str) -> None:
        """A plain publisher joins the run with an item."""
        stage = self.stages[name]
        if stage.writer is None or stage.is_over or len(stage.helpers) >= 2:
            return
        self.settle()
        helper = self._worker(name, None)
        helper.publisher.publish_item_completed("joined", len(stage.helpers))
        assert self.run(helper.publisher.flush(20))
        stage.helpers.append(helper)

    @rule(name=STAGES, fails=st.booleans())
    def end(self, name: str, fails: bool) -> None:
        """The writer ends its run."""
        stage = self.stages[name]
        if stage.writer is None or stage.is_over:
            return
        publisher = stage.writer.publisher
        if publisher.run_id is None:
            publisher.publish_stage_update("processing")
        assert publisher.publish_error("boom") if fails else publisher.publish_done(publisher.text)
        publisher.publish_stage_completed()
        stage.is_over = True

    @rule(name=STAGES, crashes=st.booleans())
    def leave(self, name: str, crashes: bool) -> None:
        """The writer's process is gone, in order or by a crash."""
        stage = self.stages[name]
        if stage.writer is None:
            return
        if crashes:
            self.settle()
        self.run(_killed(stage.writer) if crashes else _retire(stage.writer))
        stage.writer = None

    @rule()
    def repeat_batches(self) -> None:
        """Every producer's last batch arrives once more."""
        for batch in list(self.bus.last.values()):
            self.run(self.bus.publish(batch))

    @rule()
    def lose_everything(self) -> None:
        """The backend forgets all, and its connections what they carried; what nobody holds is gone."""
        self.bus.last.clear()
        self.run(self.backend.lose_everything())
        for stage in self.stages.values():
            if stage.writer is None:
                stage.text = None

    @rule(steps=st.integers(0, 20))
    def pass_time(self, steps: int) -> None:
        """The event loop goes on for a while."""

        async def steps_of_the_loop() -> None:
            for _ in range(steps):
                await asyncio.sleep(0)

        self.run(steps_of_the_loop())

    @rule(name=st.sampled_from(["one", "two", None]))
    def view(self, name: str | None) -> None:
        """A viewer comes without a position."""
        if len(self.viewers) < 5:
            self._enter(Topic(self.project, name), None)

    @precondition(lambda self: self.viewers)
    @rule(index=st.integers(0, 4))
    def interrupt(self, index: int) -> None:
        """A viewer loses its connection, wherever it is."""
        viewer = self.viewers.pop(index % len(self.viewers))
        self.run(viewer.stack.aclose())
        self.gone.append((viewer.topic, viewer.reader))

    @precondition(lambda self: self.gone)
    @rule(index=st.integers(0, 4))
    def resume(self, index: int) -> None:
        """A viewer comes back with its position and what it knew."""
        self._enter(*self.gone.pop(index % len(self.gone)))

    @rule()
    def settle(self) -> None:
        """Everything is delivered, and everybody is shown the same, which is what was published."""
        for stage in self.stages.values():
            for worker in self._workers(stage):
                self.count += 1
                assert worker.publisher.publish_progress(self.count, self.count)
                assert self.run(worker.publisher.flush(20))
        known = self.run(snapshot(self.bus, Topic(self.project)))
        for name, stage in self.stages.items():
            text = known.stages[name].text if name in known.stages else ""
            if stage.text is not None:
                assert text == stage.text
        for viewer in self.viewers:
            covered = {name: shown(state) for name, state in known.stages.items() if viewer.topic.covers(name)}

            def agrees(reader: Reader = viewer.reader, covered: dict[str, dict[str, object]] = covered) -> bool:
                return {name: shown(state) for name, state in reader.stages.items()} == covered

            self.run(viewer.reader.until(agrees))

    @invariant()
    def no_viewer_has_failed(self) -> None:
        """Order and continuity are checked by the readers as they read."""
        for viewer in self.viewers:
            assert viewer.reader.failure is None

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.run(self._close())
            self.runner.close()

    async def _close(self) -> None:
        for viewer in self.viewers:
            await viewer.stack.aclose()
        for stage in self.stages.values():
            for worker in self._workers(stage):
                await _killed(worker)
        await self.backend.close(self.bus._bus)

    def _workers(self, stage: Stage) -> list[Worker]:
        return [*([stage.writer] if stage.writer else []), *stage.helpers]

    def _worker(self, name: str, task: TaskRun | None) -> Worker:
        publisher = StagePublisher(self.bus, Topic(self.project, name), CODEC, task=task)

        async def start() -> asyncio.Task[None]:
            return asyncio.create_task(publisher.run())

        return Worker(publisher, self.run(start()))

    def _replace_writer(self, name: str) -> None:
        stage = self.stages[name]
        former = stage.writer
        if former is not None:
            assert self.run(former.publisher.flush(20))
        stage.writer = self._worker(name, stage.task)
        publisher = stage.writer.publisher
        if stage.task is not None:
            assert self.run(publisher.opened(20))
        publisher.publish_stage_update("processing")
        assert self.run(publisher.flush(20))
        if former is not None:
            former.publisher.publish_token("from the grave")
            assert not self.run(former.publisher.flush(20))
            assert former.publisher.superseded
            self.run(_retire(former))
        stage.text, stage.is_over = "", False

    def _next_run(self, stage: Stage) -> None:
        for helper in stage.helpers:
            self.run(_retire(helper))
        stage.helpers.clear()
        stage.is_over = False

    def _enter(self, topic: Topic, before: Reader | None) -> None:
        async def enter() -> Viewer:
            stack = AsyncExitStack()
            position = before.position if before else None
            stages = before.stages if before and position else None
            reader = await stack.enter_async_context(reading(self.bus, topic, after=position, stages=stages))
            return Viewer(topic, reader, stack)

        self.viewers.append(self.run(enter()))


async def _retire(worker: Worker) -> None:
    worker.publisher.close()
    await asyncio.wait_for(worker.delivering, 20)


async def _killed(worker: Worker) -> None:
    worker.delivering.cancel()
    with suppress(asyncio.CancelledError):
        await worker.delivering


def _check(backend: Backend, examples: int) -> None:
    run_state_machine_as_test(
        cast(Any, lambda: BusMachine(backend)),
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        ),
    )


def test_memory() -> None:
    """The memory adapter, through random histories."""
    _check(MemoryBackend(), 150)


def test_fakeredis() -> None:
    """The Redis adapter on fakeredis, through random histories."""
    _check(FakeBackend(), 30)


@pytest.fixture
def backend(redis_server: RedisServer) -> ServerBackend:
    return ServerBackend(redis_server)


def test_redis(backend: ServerBackend) -> None:
    """The Redis adapter on each kind of server, through random histories."""
    _check(backend, 60)
