"""The actors of the contract suite: a producer that speaks in batches, and a reader that folds what it is delivered."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from copy import deepcopy
from typing import TypeVar
from uuid import uuid4

from stagecast.adapters.codec import JsonCodec
from stagecast.domain.bus import Batch, Delivery, MessageBus, Opened, Opening, Published, Receipt, Snapshot
from stagecast.domain.events import (
    Event,
    ItemCompleted,
    ProgressReported,
    RunOpened,
    StageCompleted,
    StageFailed,
    StageRefreshed,
    StageUpdated,
    TokenEmitted,
)
from stagecast.domain.positions import Position
from stagecast.domain.producing import TaskRun
from stagecast.domain.publishing import StagePublisher
from stagecast.domain.state import StageState
from stagecast.domain.text import units
from stagecast.domain.topics import Topic

from .backend import PATIENCE, eventually

E = TypeVar("E", bound=Event)

CODEC = JsonCodec()
STAGE = Topic("project", "stage")
OTHER_STAGE = Topic("project", "other")
PROJECT = Topic("project")


class Producer:
    """One producer of one stage, speaking to the port batch by batch, with the memory that a publisher has."""

    def __init__(self, topic: Topic = STAGE, *, run: str | None = None) -> None:
        self.topic = topic
        self.name = uuid4().hex
        self.run = run
        self.task: str | None = None
        self.attempt = 0
        self.sequence = 0
        self.length = 0
        """UTF-16 units of the text that its tokens make."""
        self.acknowledged: Position | None = None
        self.receipt: Receipt | None = None

    def begin_anew(self) -> None:
        """Each attempt is a producer of its own."""
        if self.sequence:
            self.name, self.sequence = uuid4().hex, 0

    async def open(self, bus: MessageBus, run: str, *, task: str = "task", nonce: str | None = None) -> Opened:
        """Begin an attempt, as a worker does that starts to execute a task."""
        self.begin_anew()
        opened = await bus.open_run(
            Opening(topic=self.topic, run=run, task=task, nonce=nonce or uuid4().hex, producer=self.name)
        )
        self.run, self.task, self.attempt, self.acknowledged = run, task, opened.attempt, opened.position
        return opened

    def batch(self, *events: Event, release: bool = False) -> Batch:
        """The next batch of these events."""
        return Batch(
            topic=self.topic,
            producer=self.name,
            first=self.sequence + 1,
            events=events,
            run=self.run,
            task=self.task,
            attempt=self.attempt,
            new_run=uuid4().hex,
            acknowledged=self.acknowledged,
            release=release,
        )

    def took(self, receipt: Receipt) -> Receipt:
        """Remember an answer, as a publisher does."""
        self.sequence += receipt.applied
        self.run = receipt.run or self.run
        self.acknowledged = receipt.position or self.acknowledged
        self.receipt = receipt
        return receipt

    async def send(self, bus: MessageBus, *events: Event, release: bool = False) -> Receipt:
        """Publish a batch and remember its answer."""
        return self.took(await bus.publish(self.batch(*events, release=release)))

    async def write(self, bus: MessageBus, *pieces: str) -> Receipt:
        """Publish pieces of text, each a token, in one batch that must be applied whole."""
        receipt = await self.send(bus, *self.tokens(*pieces))
        assert (receipt.applied, receipt.refused, receipt.need) == (len(pieces), 0, None)
        return receipt

    def tokens(self, *pieces: str) -> list[Event]:
        """The tokens that append `pieces` to the producer's text."""
        events = list[Event]()
        for piece in pieces:
            events.append(self.token(piece, self.length))
            self.length += units(piece)
        return events

    def token(self, content: str, offset: int, *, snapshot: bool = False) -> TokenEmitted:
        return self._make(TokenEmitted, content=content, offset=offset, snapshot=snapshot)

    def update(self, status: str = "processing", progress: float | None = None) -> StageUpdated:
        return self._make(StageUpdated, status=status, progress=progress)

    def progress(self, current: int, total: int) -> ProgressReported:
        return self._make(ProgressReported, current=current, total=total, progress=int(current / total * 100))

    def item(self, number: int, kind: str = "image") -> ItemCompleted:
        return self._make(ItemCompleted, item_type=kind, sequence_number=number, metadata={"url": f"{kind}{number}"})

    def refreshed(self) -> StageRefreshed:
        return self._make(StageRefreshed, metadata={"seen": True})

    def done(self, full_text: str | None = None) -> StageCompleted:
        return self._make(StageCompleted, full_text=full_text)

    def failed(self, error: str = "boom") -> StageFailed:
        return self._make(StageFailed, error=error)

    def _make(self, kind: type[E], **fields: object) -> E:
        assert self.topic.stage is not None
        return kind(project=self.topic.project, stage=self.topic.stage, timestamp=time.time(), **fields)  # type: ignore[arg-type]


def queued(topic: Topic, run: str) -> Opening:
    """The announcement of a run that a task is to execute later."""
    assert topic.stage is not None
    status = StageUpdated(project=topic.project, stage=topic.stage, timestamp=time.time(), status="queued")
    return Opening(topic=topic, run=run, task=run, nonce=uuid4().hex, producer=uuid4().hex, queued=status)


class Reader:
    """Reads a subscription in the background and folds it; checks each delivery against what came before."""

    def __init__(self, topic: Topic, stages: Mapping[str, StageState] | None, position: Position | None) -> None:
        self.topic = topic
        self.deliveries: list[Delivery] = []
        self.stages: dict[str, StageState] = deepcopy(dict(stages or {}))
        self.position = position
        self.has_ended = False
        self._resumes = position is not None
        self._folds = position is None or stages is not None
        self.failure: BaseException | None = None

    @property
    def snapshots(self) -> list[Snapshot]:
        return [one for one in self.deliveries if isinstance(one, Snapshot)]

    @property
    def resets(self) -> list[str]:
        """The reasons of the resets that were delivered."""
        return [one.reset for one in self.snapshots if one.reset is not None]

    @property
    def published(self) -> list[Published]:
        return [one for one in self.deliveries if isinstance(one, Published)]

    def events(self, kind: type[E]) -> list[E]:
        """The events of one type, in the order of their delivery."""
        return [one.event for one in self.published if isinstance(one.event, kind)]

    def contents(self) -> list[str]:
        """The contents of the tokens, in the order of their delivery."""
        return [token.content for token in self.events(TokenEmitted)]

    def state(self, topic: Topic = STAGE) -> StageState:
        """What the reader knows of a stage."""
        assert topic.stage is not None
        return self.stages.get(topic.stage) or StageState(project=topic.project, stage=topic.stage)

    @property
    def text(self) -> str:
        return self.state(self.topic if self.topic.stage else STAGE).text

    async def until(self, reached: Callable[[], object], timeout: float | None = None) -> None:
        """Wait until `reached()` is true."""

        def look() -> object:
            if self.failure is not None:
                raise self.failure
            return reached()

        try:
            await eventually(look, timeout)
        except AssertionError as error:
            last = [type(one.event).__name__ if isinstance(one, Published) else one for one in self.deliveries[-5:]]
            raise AssertionError(f"{error}; {len(self.deliveries)} deliveries, the last are {last}") from error

    async def until_at(self, position: Position | None) -> None:
        """Wait until everything up to `position` has been delivered."""
        assert position is not None
        await self.until(lambda: self.position is not None and self.position >= position)

    async def until_ended(self, topic: Topic = STAGE, timeout: float | None = None) -> None:
        """Wait until a stage has ended."""
        await self.until(lambda: self.state(topic).ended, timeout)

    async def until_reset(self) -> None:
        """Wait for a reset."""
        await self.until(lambda: self.resets)

    async def until_any(self, kind: type[Event]) -> None:
        """Wait for an event of a type."""
        await self.until(lambda: self.events(kind))

    async def until_count(self, deliveries: int) -> None:
        """Wait for a number of deliveries."""
        await self.until(lambda: len(self.deliveries) >= deliveries)

    async def follow(self, subscription: AsyncIterator[Delivery]) -> None:
        """Take deliveries until the subscription ends."""
        try:
            async for delivery in subscription:
                self._take(delivery)
        except Exception as error:
            self.failure = error
        self.has_ended = True

    def _take(self, delivery: Delivery) -> None:
        if isinstance(delivery, Snapshot):
            if self.deliveries or self._resumes:
                assert delivery.reset is not None, "a snapshot in mid-stream says why"
            self.stages = deepcopy(dict(delivery.stages))
            self._folds = True
        else:
            assert self.topic.covers(delivery.event.stage), f"not of {self.topic}"
            assert self.position is None or self.position < delivery.position, "order"
            if self.topic.stage is None and not self._resumes and self.position is not None:
                assert delivery.position.follows(self.position), f"{delivery.position} after {self.position}: a gap"
            event = delivery.event
            if self._folds:
                state = self.stages.setdefault(event.stage, StageState(project=event.project, stage=event.stage))
                state.apply(delivery.position, event)
        self.position = delivery.position
        self.deliveries.append(delivery)


@asynccontextmanager
async def reading(
    bus: MessageBus,
    topic: Topic = STAGE,
    *,
    after: Position | None = None,
    stages: Mapping[str, StageState] | None = None,
) -> AsyncIterator[Reader]:
    """A reader that follows `topic` for the block. One that resumes folds on from the `stages` that it knew, if any."""
    reader = Reader(topic, stages, after)
    async with bus.subscribe(topic, after) as subscription:
        following = asyncio.create_task(reader.follow(subscription))
        try:
            yield reader
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
    if reader.failure is not None:
        raise reader.failure


async def snapshot(bus: MessageBus, topic: Topic = STAGE) -> Snapshot:
    """What a late joiner is given."""
    async with bus.subscribe(topic) as subscription:
        first = await anext(aiter(subscription))
    assert isinstance(first, Snapshot)
    return first


async def state(bus: MessageBus, topic: Topic = STAGE) -> StageState:
    """The state of a stage as a late joiner is given it; an empty one where the bus knows none."""
    assert topic.stage is not None
    stages = (await snapshot(bus, topic)).stages
    return stages.get(topic.stage) or StageState(project=topic.project, stage=topic.stage)


def shown(state: StageState) -> dict[str, object]:
    """What two readers of one stage must agree on. (`attempt` of a run that was queued is told by snapshots alone.)"""
    return {
        "run": state.run,
        "text": state.text,
        "length": state.length,
        "slots": dict(sorted(state.slots.items())),
        "began": state.began,
        "opened": state.opened,
        "text_began": state.text_began,
        "ended": state.ended,
        "pipeline_ended": state.pipeline_ended,
    }


def openings(reader: Reader) -> list[str]:
    """The runs whose openings were delivered."""
    return [event.run for event in reader.events(RunOpened)]


@asynccontextmanager
async def publishing(
    bus: MessageBus, topic: Topic = STAGE, *, task: TaskRun | None = None
) -> AsyncIterator[StagePublisher]:
    """A publisher as users have it, closed at the end of the block once everything is delivered."""
    publisher = StagePublisher(bus, topic, CODEC, task=task)
    delivering = asyncio.create_task(publisher.run())
    try:
        yield publisher
        publisher.close()
        async with asyncio.timeout(PATIENCE.seconds):
            await delivering
    finally:
        delivering.cancel()
        with suppress(asyncio.CancelledError):
            await delivering
