"""The use case "publish a stage": callers fill an outbox in microseconds, one task delivers it.

`StagePublisher.publish_*` may be called from any thread and never wait. `run()` is the delivering task: while one
batch is on its way the next one gathers, so the first token leaves at once and a fast producer batches by itself.
A batch whose answer is unknown is sent again as it was; the bus skips what it already has.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from attrs import field, frozen

from . import values
from .bus import Batch, EventCodec, MessageBus, Opened, Opening, Receipt
from .errors import (
    BusUnavailable,
    EventTooLarge,
    InvalidEvent,
    InvalidTopic,
    PublishFailed,
    RunCancelled,
    RunSuperseded,
    StagecastError,
)
from .events import (
    Event,
    FailureReason,
    ItemCompleted,
    Metadata,
    PipelineCompleted,
    PipelineFailed,
    ProgressReported,
    StageCompleted,
    StageFailed,
    StageRefreshed,
    StageUpdated,
    TokenEmitted,
)
from .outbox import Outbox, OutboxLimits
from .positions import Position
from .topics import Topic

logger = logging.getLogger("stagecast.publisher")

RENEWAL = 1.0
"""Seconds between two signs of life of a producer that has nothing to send."""
LONGEST_PAUSE = 2.0
"""Seconds, at the most, between two attempts to reach a bus that is away; a quarter of a lease where that is less."""

_Answer = TypeVar("_Answer")
_NUMBER = (int, float)
_ACCEPTED_TYPES: dict[str, tuple[type, ...]] = {
    "status": (str,),
    "progress": (*_NUMBER, type(None)),
    "current": (*_NUMBER, type(None)),
    "total": (*_NUMBER, type(None)),
    "message": (str, type(None)),
    "item_name": (str, type(None)),
    "item_type": (str,),
    "sequence_number": (int,),
    "full_text": (str, type(None)),
    "error": (str,),
    "retry_count": (int, type(None)),
    "reason": (str,),
    "metadata": (dict, type(None)),
}


class PublishingCodec(EventCodec, Protocol):
    """What a publisher needs of the codec: to check events when they are handed over, and to read raw messages."""

    def parse(self, topic: Topic, message: Metadata, timestamp: float) -> Event:
        """The event that a caller's own message stands for."""
        ...


@frozen(kw_only=True)
class TaskRun:
    """The run and task that a worker executes; a new nonce is a new execution (`stagecast.domain.bus.Opening`)."""

    run: str
    task: str
    nonce: str = field(factory=lambda: uuid4().hex)


class StagePublisher:
    """Publishes one stage of one project over a bus.

    The publish methods return True when the event is accepted for delivery, False when it is refused: its value
    cannot be sent, a newer run has taken over, or the text belongs to another writer. With `strict` they raise
    InvalidEvent, EventTooLarge, RunSuperseded, RunCancelled or PublishFailed instead.
    """

    def __init__(
        self,
        bus: MessageBus,
        topic: Topic,
        codec: PublishingCodec,
        *,
        task: TaskRun | None = None,
        strict: bool = False,
        headers: Mapping[str, str] | None = None,
        limits: OutboxLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if topic.stage is None:
            raise InvalidTopic("a publisher publishes one stage: the topic names none")
        self.topic = topic
        self.stage = topic.stage
        self.strict = strict
        self.producer = uuid4().hex
        self.run_id: str | None = task.run if task else None
        """The run that the publisher belongs to, once the bus has told it."""
        self.attempt = 0
        """The number of the task's attempt, from 1; 0 until the bus has numbered it, and outside a task."""
        self.cancelled = False
        """Whether the run was asked to stop."""
        self.superseded = False
        """Whether a newer run or attempt has taken the stage over."""
        self._bus, self._codec, self._clock, self._task = bus, codec, clock, task
        self._headers = {
            values.sound(str(name), "headers"): values.sound(str(value), "headers")
            for name, value in (headers or {}).items()
        }
        self._outbox = Outbox(self._token, clock, limits or OutboxLimits(), bus.limits.event_bytes)
        self._sequence = 0
        self._opened: Opened | None = None
        self._acknowledged: Position | None = None
        self._is_writer = True
        self._closing = self._finished = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work = asyncio.Event()
        self._signalled = False
        self._last_refusal = ""
        self._settled = asyncio.Condition()

    @property
    def text(self) -> str:
        """The text published so far."""
        return self._outbox.text

    def publish_token(self, content: str, full_text: str | None = None) -> bool:
        """Publish a piece of text.

        A `full_text` whose length is not that of the text so far plus `content` begins the text anew, with
        `full_text`: a later task can go on with an earlier one's text, and a generator can start over.
        """
        if (refusal := self._refusal()) is not None:
            return self._refuse(refusal)
        if not self._is_writer:
            return self._refuse(PublishFailed("another producer writes the text of this stage"))
        if not isinstance(content, str) or not isinstance(full_text, str | None):  # type: ignore[redundant-expr]
            return self._refuse(InvalidEvent("the content and full_text of a token are text"))
        try:
            self._outbox.add_token(content, full_text)
        except EventTooLarge as error:
            return self._refuse(error)
        self._wake()
        return True

    def publish_stage_update(
        self,
        status: str,
        progress: float | None = None,
        message: str | None = None,
        *,
        retry_count: int | None = None,
    ) -> bool:
        """Publish a change of status; `progress` in percent."""
        return self._publish(StageUpdated, status=status, progress=progress, message=message, retry_count=retry_count)

    def publish_progress(self, current: float, total: float, item_name: str | None = None) -> bool:
        """Publish progress through a batch: `progress` becomes `int(current / total * 100)`, 0 where total is 0."""
        percent = values.percentage(current, total)
        return self._publish(ProgressReported, current=current, total=total, progress=percent, item_name=item_name)

    def publish_item_completed(self, item_type: str, sequence_number: int, metadata: Metadata | None = None) -> bool:
        """Publish that one item of a batch (an image, a camera move, a video) is ready."""
        return self._publish(ItemCompleted, item_type=item_type, sequence_number=sequence_number, metadata=metadata)

    def publish_done(self, full_text: str = "", metadata: Metadata | None = None) -> bool:
        """Publish the successful end of the run. A `full_text` that equals the published text travels as no copy."""
        is_own = self._is_writer and isinstance(full_text, str) and self._outbox.is_own_text(full_text)  # type: ignore[redundant-expr]
        text = None if is_own else full_text
        return self._publish(StageCompleted, full_text=text, metadata=metadata)

    def publish_stage_completed(self, metadata: Metadata | None = None) -> bool:
        """Publish that viewers should refresh what they show of the stage. Not an end."""
        return self._publish(StageRefreshed, metadata=metadata)

    def publish_error(self, error: object, retry_count: int = 0, *, reason: FailureReason = "exception") -> bool:
        """Publish the failed end of the run."""
        return self._publish(StageFailed, error=_told(error), retry_count=retry_count or 0, reason=reason)

    def publish_pipeline_done(self, metadata: Metadata | None = None) -> bool:
        """Publish that all stages of the project are done."""
        return self._publish(PipelineCompleted, metadata=metadata)

    def publish_pipeline_error(self, error: object, metadata: Metadata | None = None) -> bool:
        """Publish that the project's pipeline has failed."""
        return self._publish(PipelineFailed, error=_told(error), metadata=metadata)

    def publish(self, message: Metadata) -> bool:
        """Publish a raw message; a `timestamp` is added. One of a known type counts as that event."""
        try:
            plain = values.plain(message, "message")
            if not isinstance(plain, dict):
                raise InvalidEvent("message is not a mapping")
            event = self._codec.parse(self.topic, plain, self._clock())
        except StagecastError as error:
            return self._refuse(error)
        if isinstance(event, TokenEmitted):
            full_text = plain.get("full_text")
            return self.publish_token(event.content, full_text if isinstance(full_text, str) else None)
        return self._accept(event)

    def _publish(self, kind: type[Event], **fields: Any) -> bool:
        try:
            for name, value in fields.items():
                fields[name] = plain = values.plain(value, name)
                if isinstance(plain, bool) or not isinstance(plain, _ACCEPTED_TYPES[name]):
                    raise InvalidEvent(f"{name} cannot be a {type(value).__name__}")
            event = kind(
                project=self.topic.project,
                stage=self.stage,
                timestamp=self._clock(),
                headers=self._headers,
                **fields,
            )
        except InvalidEvent as error:
            return self._refuse(error)
        return self._accept(event)

    def _accept(self, event: Event) -> bool:
        if (refusal := self._refusal()) is not None:
            return self._refuse(refusal)
        try:
            size = len(self._codec.encode(event))
        except InvalidEvent as error:
            return self._refuse(error)
        if size > self._bus.limits.event_bytes:
            limit = self._bus.limits.event_bytes
            return self._refuse(EventTooLarge(f"{event.type} of {size} bytes; the limit is {limit}"))
        self._outbox.add(event)
        self._wake()
        return True

    def _refusal(self) -> StagecastError | None:
        if self.superseded:
            return RunSuperseded("a newer run or attempt has taken this stage over")
        if self.cancelled and self.strict:
            return RunCancelled(f"run {self.run_id} was cancelled")
        if self._closing:
            return PublishFailed("the publisher is closed")
        if self._outbox.is_full:
            return PublishFailed("too many events wait for a bus that cannot be reached")
        return None

    def _refuse(self, error: StagecastError) -> bool:
        if self.strict:
            raise error
        level = logging.DEBUG if str(error) == self._last_refusal else logging.WARNING  # once, not for every token
        self._last_refusal = str(error)
        logger.log(level, "%s/%s: refused: %s", self.topic.project, self.stage, error)
        return False

    def _token(self, content: str, offset: int, timestamp: float, snapshot: bool) -> TokenEmitted:
        return TokenEmitted(
            project=self.topic.project,
            stage=self.stage,
            timestamp=timestamp,
            headers=self._headers,
            content=content,
            offset=offset,
            snapshot=snapshot,
        )

    def _wake(self) -> None:
        if self._signalled or self._loop is None:
            return
        self._signalled = True
        with suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(self._work.set)

    async def opened(self, timeout: float) -> Opened | None:
        """The bus's answer to the opening of a `TaskRun`; None where it did not come within `timeout` seconds."""
        await self._until(lambda: self._opened is not None or self.superseded, timeout)
        return self._opened

    async def flush(self, timeout: float | None = None) -> bool:
        """Wait until the bus has acknowledged everything accepted before.

        False when `timeout` seconds did not suffice, or when something since the last flush was refused.
        """
        outbox = self._outbox
        target = outbox.mark()
        self._wake()
        delivered = await self._until(lambda: outbox.settled >= target, timeout)
        refused, outbox.refused = outbox.refused, 0
        return delivered and not refused

    def close(self) -> None:
        """Accept nothing more; `run()` ends once everything is delivered, and gives the lease back then."""
        self._outbox.mark()
        self._closing = True
        self._wake()

    async def _until(self, reached: Callable[[], bool], timeout: float | None) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._settled:
                await self._settled.wait_for(lambda: reached() or self._finished)
        return reached()

    async def run(self) -> None:
        """Deliver until `close()` was called and everything is delivered; then give the lease back."""
        self._loop = asyncio.get_running_loop()
        try:
            if self._task is not None and not await self._open(self._task):
                self._outbox.give_up_all()
            while True:
                self._signalled = False
                if not self._outbox.is_empty:
                    await self._deliver()
                elif self._closing:
                    break
                elif not await self._wait_for_work() and self.run_id is not None and not self.superseded:
                    await self._deliver()
            await self._release()
        finally:
            self._finished = True
            await self._announce()

    async def _wait_for_work(self) -> bool:
        """Whether there may be something to do; False after a renewal interval without anything."""
        try:
            async with asyncio.timeout(min(RENEWAL, self._bus.limits.lease / 5)):
                await self._work.wait()
        except TimeoutError:
            return False
        self._work.clear()
        return True

    async def _open(self, task: TaskRun) -> bool:
        opening = Opening(topic=self.topic, run=task.run, task=task.task, nonce=task.nonce, producer=self.producer)
        try:
            self._opened = await self._retry(lambda: self._bus.open_run(opening))
        except StagecastError as error:
            logger.warning("%s/%s: the run cannot be opened: %s", self.topic.project, self.stage, error)
            self.superseded = True
        else:
            self.attempt, self._acknowledged = self._opened.attempt, self._opened.position
            self.cancelled = self._opened.cancelled
            self.superseded = self.cancelled
        await self._announce()
        return not self.superseded

    async def _release(self) -> None:
        """Give the lease back; restore what the bus has lost first, for nobody will do so later."""
        while self.run_id is not None and not self.superseded:
            receipt = await self._send((), release=True)
            if receipt.need is None or receipt.superseded:
                return
            self._outbox.put_back((), receipt.need, writes_text=self._is_writer)
            while not self._outbox.is_empty:
                await self._deliver()

    async def _deliver(self) -> None:
        """Send the next batch, or a sign of life where there is none; put in front of the next what is still due."""
        batch = self._outbox.take()
        try:
            receipt = await self._send(tuple(sent.event for sent in batch))
        except StagecastError as error:
            logger.error("%s/%s: %d events are lost: %s", self.topic.project, self.stage, len(batch), error)
            self._sequence += len(batch)
            self._outbox.give_up(batch)
            await self._announce()
            return
        self._sequence += receipt.applied
        if receipt.run is not None and receipt.run != self.run_id:
            self._outbox.forget_run()
            self.run_id, self._is_writer = receipt.run, True
        if receipt.superseded:
            logger.warning("%s/%s: a newer run or attempt has taken over", self.topic.project, self.stage)
            self.superseded = True
            self._outbox.give_up(batch)
            self._outbox.give_up_all()
        else:
            self._outbox.settle(batch[: receipt.applied])
            self._outbox.refused += receipt.refused
            self._watch_text(receipt)
            self._outbox.put_back(batch[receipt.applied :], receipt.need, writes_text=self._is_writer)
        await self._announce()

    def _watch_text(self, receipt: Receipt) -> None:
        if receipt.foreign_text and self._is_writer:
            self._is_writer = False
            logger.warning("%s/%s: another producer writes this stage's text", self.topic.project, self.stage)

    async def _send(self, events: tuple[Event, ...], *, release: bool = False) -> Receipt:
        batch = Batch(
            topic=self.topic,
            producer=self.producer,
            first=self._sequence + 1,
            events=events,
            run=self.run_id,
            task=self._task.task if self._task else None,
            attempt=self.attempt,
            new_run=uuid4().hex,
            acknowledged=self._acknowledged,
            release=release,
        )
        receipt = await self._retry(lambda: self._bus.publish(batch))
        self._acknowledged = receipt.position or self._acknowledged
        self.cancelled = self.cancelled or receipt.cancelled
        return receipt

    async def _retry(self, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """The answer of `call`, however long the bus is away. Logs an outage once."""
        failures = 0
        while True:
            try:
                answer = await call()
            except BusUnavailable as error:
                if failures == 0:
                    logger.warning("%s/%s: the bus is away, events wait: %s", self.topic.project, self.stage, error)
                failures += 1
                pause = min(0.05 * 2 ** min(failures, 10), LONGEST_PAUSE, self._bus.limits.lease / 4)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            else:
                if failures:
                    logger.info("%s/%s: the bus is back", self.topic.project, self.stage)
                return answer

    async def _announce(self) -> None:
        async with self._settled:
            self._settled.notify_all()


def _told(error: object) -> str:
    """The text of `error`, or its type's name: publishing a failure must not fail for the failure's own faults."""
    try:
        return str(error)
    except Exception:
        return type(error).__name__
