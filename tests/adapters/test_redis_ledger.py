"""The Redis script against the readable rules it translates: same operations, same answers, same log, same state."""

import asyncio
import copy
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stagecast.adapters.codec import JsonCodec
from stagecast.adapters.memory import MemoryBus
from stagecast.adapters.redis.bus import RedisBus
from stagecast.adapters.redis.link import connect_to
from stagecast.adapters.redis.state import Keys
from stagecast.domain.bus import Batch, BusLimits, Opening, Receipt, Snapshot
from stagecast.domain.errors import RunSuperseded
from stagecast.domain.events import (
    Event,
    ItemCompleted,
    PipelineCompleted,
    ProgressReported,
    StageCompleted,
    StageFailed,
    StageUpdated,
    TokenEmitted,
)
from stagecast.domain.ledger import ProjectLedger
from stagecast.domain.positions import Position
from stagecast.domain.text import units
from stagecast.domain.topics import Topic
from tests.servers import RedisServer

STAGES = ("a", "b")
PRODUCERS = ("p1", "p2", "p3")
TASKS = ("t1", "t2", "r1")
RUNS = ("r1", "r2", "r3")

events = st.sampled_from(
    ["token", "token", "token", "begin", "update", "final", "progress", "item", "done", "error", "pipe"]
)
operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("publish"), st.sampled_from(STAGES), st.sampled_from(PRODUCERS), st.lists(events, max_size=4)
        ),
        st.tuples(st.just("repeat"), st.sampled_from(STAGES), st.sampled_from(PRODUCERS)),
        st.tuples(st.just("release"), st.sampled_from(STAGES), st.sampled_from(PRODUCERS)),
        st.tuples(st.just("open"), st.sampled_from(STAGES), st.sampled_from(RUNS), st.sampled_from(TASKS)),
        st.tuples(st.just("reopen"), st.sampled_from(STAGES), st.sampled_from(PRODUCERS)),
        st.tuples(st.just("queue"), st.sampled_from(STAGES), st.sampled_from(RUNS)),
        st.tuples(st.just("cancel"), st.sampled_from(STAGES)),
        st.tuples(st.just("lapse"), st.sampled_from(STAGES)),
        st.tuples(st.just("lose")),
        st.tuples(st.just("save")),
        st.tuples(st.just("rewind")),
    ),
    max_size=40,
    min_size=5,
)


class Producer:
    """One producer's knowledge of one backend."""

    def __init__(self) -> None:
        self.sequence = 0
        self.run: str | None = None
        self.task: str | None = None
        self.attempt = 0
        self.acknowledged: Position | None = None
        self.length = 0
        self.last: Batch | None = None


class Side:
    """One backend, driven by the operations; `trace` is what it answered, with epochs numbered in their order."""

    def __init__(self, bus: Any, project: str) -> None:
        self.bus, self.project = bus, project
        self.producers: dict[tuple[str, str], Producer] = {}
        self.epochs: list[int] = []
        self.trace: list[object] = []
        self.nonce = 0

    def normal(self, position: Position | None) -> object:
        if position is None:
            return None
        if position.epoch not in self.epochs:
            self.epochs.append(position.epoch)
        return (self.epochs.index(position.epoch), position.n)

    def producer(self, stage: str, name: str) -> Producer:
        return self.producers.setdefault((stage, name), Producer())

    def note(self, producer: Producer, receipt: Receipt) -> None:
        producer.sequence += receipt.applied
        producer.run = receipt.run
        producer.acknowledged = receipt.position or producer.acknowledged
        self.trace.append((evolve(receipt, position=None), self.normal(receipt.position)))

    async def publish(self, stage: str, name: str, kinds: list[str], counter: int, *, release: bool = False) -> None:
        producer = self.producer(stage, name)
        made = [event_of(kind, self.project, stage, producer, counter) for kind in kinds]
        batch = Batch(
            topic=Topic(self.project, stage),
            producer=f"{stage}{name}",
            first=producer.sequence + 1,
            events=tuple(made),
            run=producer.run,
            task=producer.task,
            attempt=producer.attempt,
            new_run=f"new{counter}",
            acknowledged=producer.acknowledged,
            release=release,
        )
        producer.last = batch
        self.note(producer, await self.bus.publish(batch))

    async def repeat(self, stage: str, name: str) -> None:
        producer = self.producer(stage, name)
        if producer.last is not None:
            receipt = await self.bus.publish(producer.last)
            self.trace.append(("again", receipt.applied, receipt.refused, receipt.need, receipt.superseded))
            producer.sequence = max(producer.sequence, producer.last.first + receipt.applied - 1)

    async def open(self, stage: str, run: str, task: str, *, queued: bool = False, producer: str | None = None) -> None:
        self.nonce += 1
        topic = Topic(self.project, stage)
        known = self.producer(stage, producer or task)
        event = StageUpdated(project=self.project, stage=stage, timestamp=1.0, status="queued") if queued else None
        try:
            opened = await self.bus.open_run(
                Opening(topic=topic, run=run, task=task, nonce=str(self.nonce), producer=f"{stage}{task}", queued=event)
            )
        except RunSuperseded:
            self.trace.append("superseded")
            return
        self.trace.append((opened.attempt, self.normal(opened.position), opened.cancelled))
        if not queued:
            known.run, known.task, known.attempt = run, task, opened.attempt
            known.acknowledged = opened.position

    async def state(self) -> None:
        async with self.bus.subscribe(Topic(self.project)) as subscription:
            snapshot = await anext(subscription)
            assert isinstance(snapshot, Snapshot)
        stages = {
            name: (
                state.run, state.attempt, self.normal(state.began), self.normal(state.opened), self.normal(state.ended),
                self.normal(state.text_began), self.normal(state.pipeline_ended), state.text, state.length,
                sorted((slot, evolve(event, timestamp=0.0)) for slot, event in state.slots.items()),
            )
            for name, state in snapshot.stages.items()
            if state.run is not None or state.slots
        }  # fmt: skip
        self.trace.append((self.normal(snapshot.position), stages))


def event_of(kind: str, project: str, stage: str, producer: Producer, counter: int) -> Event:
    common: dict[str, Any] = {"project": project, "stage": stage, "timestamp": 1.0}
    match kind:
        case "token" | "begin":
            if kind == "begin":
                producer.length = 0
            content = f"🙂{counter};"
            token = TokenEmitted(**common, content=content, offset=producer.length)
            producer.length += units(content)
            return token
        case "update":
            return StageUpdated(**common, status="processing")
        case "final":
            return StageUpdated(**common, status="skipped")
        case "progress":
            return ProgressReported(**common, current=1, total=2, progress=50)
        case "item":
            return ItemCompleted(**common, item_type="image", sequence_number=counter % 3)
        case "done":
            return StageCompleted(**common, full_text=None)
        case "error":
            return StageFailed(**common, error="boom")
        case _:
            return PipelineCompleted(**common)


async def drive(side: Side, backend: "Memory | Redis", step: tuple[Any, ...], counter: int) -> None:
    operation, *rest = step
    match operation:
        case "publish":
            stage, name, kinds = rest
            await side.publish(stage, name, kinds, counter)
        case "repeat":
            await side.repeat(*rest)
        case "release":
            stage, name = rest
            await side.publish(stage, name, [], counter, release=True)
        case "open":
            await side.open(*rest)
        case "reopen":
            stage, name = rest
            known = side.producer(stage, name)
            if known.run and known.task:
                await side.open(stage, known.run, known.task)
        case "queue":
            stage, run = rest
            await side.open(stage, run, "t1", queued=True)
        case "cancel":
            run = (await backend.runs()).get(rest[0])
            side.trace.append(run is not None and await side.bus.cancel(Topic(side.project, rest[0]), run))
        case "lapse":
            await backend.lapse(rest[0])
        case "lose":
            await backend.lose()
        case "save":
            await backend.save()
        case "rewind":
            await backend.rewind()
    await side.state()


class Memory:
    def __init__(self, bus: MemoryBus, project: str) -> None:
        self.bus, self.project = bus, project
        self.saved: ProjectLedger | None = None

    async def runs(self) -> dict[str, str]:
        ledger = self.bus._projects.get(self.project)
        return {} if ledger is None else {n: s.run for n, s in ledger.stages.items() if s.run}

    async def lapse(self, stage: str) -> None:
        ledger = self.bus._projects.get(self.project)
        for name, run, leases in list(ledger.leases()) if ledger else []:
            if name == stage and ledger and leases:
                ledger.lapse(name, run, {p: lease.beat for p, lease in leases.items()}, self.bus._now())

    async def lose(self) -> None:
        self.bus.lose_everything()

    async def save(self) -> None:
        self.saved = copy.deepcopy(self.bus._projects.get(self.project))

    async def rewind(self) -> None:
        if self.saved is not None:
            self.bus._projects[self.project] = copy.deepcopy(self.saved)
        else:
            self.bus._projects.pop(self.project, None)


class Redis:
    def __init__(self, bus: RedisBus, project: str, server: RedisServer) -> None:
        self.bus, self.project, self.client = bus, project, server.client()
        self.saved: dict[Any, Any] = {}

    def keys(self) -> list[Any]:
        return list(self.client.keys(f"stagecast:1:{{{self.project}}}:*"))

    async def runs(self) -> dict[str, str]:
        fields: dict[Any, Any] = self.client.hgetall(Keys(self.project).meta)
        return {k.decode()[:-4]: v.decode() for k, v in fields.items() if k.count(b":") == 1 and k.endswith(b":run")}

    async def lapse(self, stage: str) -> None:
        held: dict[Any, Any] = self.client.hgetall(Keys(self.project).leases)
        run = (await self.runs()).get(stage)
        beats = {}
        for name, value in held.items():
            of, _, producer = name.decode().partition(":")
            lease_run, _, beat = value.decode().partition(" ")
            if of == stage and producer and lease_run == run:
                beats[producer] = beat
        if run and beats:
            await self.bus._lapse(self.project, stage, run, beats)

    async def lose(self) -> None:
        for key in self.keys():
            self.client.delete(key)

    async def save(self) -> None:
        self.saved = {key: self.client.dump(key) for key in self.keys()}

    async def rewind(self) -> None:
        await self.lose()
        for key, value in self.saved.items():
            self.client.restore(key, 600_000, value)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=operations)
def test_the_script_and_the_ledger_agree(
    script: list[tuple[Any, ...]], any_redis: RedisServer, loop: asyncio.AbstractEventLoop
) -> None:
    """Every operation, losses and rewinds included, gets the same answer and leaves the same state in both."""

    async def compare() -> None:
        project = uuid4().hex
        codec, limits = JsonCodec(), BusLimits()
        memory = MemoryBus(codec, limits)
        redis = RedisBus(codec, limits, connect_to(any_redis.url))
        try:
            left, right = Side(memory, project), Side(redis, project)
            backends = Memory(memory, project), Redis(redis, project, any_redis)
            for index, step in enumerate(script):
                await drive(left, backends[0], step, index)
                await drive(right, backends[1], step, index)
                assert left.trace == right.trace, f"after operation {index}: {step}"
        finally:
            await redis.aclose()
            await memory.aclose()

    loop.run_until_complete(compare())
