"""The use case "publish a stage": callers fill an outbox in microseconds, one task delivers it.

`StagePublisher.publish_*` may be called from any thread and never wait. `run()` is the delivering task: the first token
leaves at once, and what a fast producer adds soon after gathers and goes together (`OutboxLimits.linger`).
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from . import values
from .bus import EventCodec, MessageBus, Opened
from .errors import (
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
from .producing import Producer, TaskRun
from .topics import Topic

logger = logging.getLogger("stagecast.publisher")

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
        self._codec, self._clock = codec, clock
        self._max_bytes = bus.limits.event_bytes
        self._headers = {
            values.sound(str(name), "headers"): values.sound(str(value), "headers")
            for name, value in (headers or {}).items()
        }
        make_token = partial(TokenEmitted, project=topic.project, stage=topic.stage, headers=self._headers)
        carried = len(json.dumps(self._headers).encode())  # by each token
        self._outbox = Outbox(make_token, clock, limits or OutboxLimits(), self._max_bytes - carried)
        self._producer = Producer(bus, topic, self._outbox, task)
        self._last_refusal = ""

    @property
    def run_id(self) -> str | None:
        """The run that the publisher belongs to, once the bus has told it."""
        return self._producer.run_id

    @property
    def attempt(self) -> int:
        """The number of the task's attempt, from 1; 0 until the bus has numbered it, and outside a task."""
        return self._producer.attempt

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to stop."""
        return self._producer.cancelled

    @property
    def superseded(self) -> bool:
        """Whether a newer run or attempt has taken the stage over."""
        return self._producer.superseded

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
        if not self._producer.is_writer:
            return self._refuse(PublishFailed("another producer writes the text of this stage"))
        if not isinstance(content, str) or not (full_text is None or isinstance(full_text, str)):  # type: ignore[redundant-expr]
            return self._refuse(InvalidEvent("the content and full_text of a token are text"))
        try:
            self._outbox.add_token(content, full_text)
        except EventTooLarge as error:
            return self._refuse(error)
        self._producer.wake()
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
        is_own = self._producer.is_writer and isinstance(full_text, str) and self._outbox.is_own_text(full_text)  # type: ignore[redundant-expr]
        text = None if is_own else full_text
        return self._publish(StageCompleted, full_text=text, metadata=metadata)

    def publish_stage_completed(self, metadata: Metadata | None = None) -> bool:
        """Publish that viewers should refresh what they show of the stage. Not an end."""
        return self._publish(StageRefreshed, metadata=metadata)

    def publish_error(self, error: object, retry_count: int = 0, *, reason: FailureReason = "exception") -> bool:
        """Publish the failed end of the run."""
        return self._publish(StageFailed, error=_told(error), retry_count=retry_count, reason=reason)

    def publish_pipeline_done(self, metadata: Metadata | None = None) -> bool:
        """Publish that all stages of the project are done."""
        return self._publish(PipelineCompleted, metadata=metadata)

    def publish_pipeline_error(self, error: object, metadata: Metadata | None = None) -> bool:
        """Publish that the project's pipeline has failed."""
        return self._publish(PipelineFailed, error=_told(error), metadata=metadata)

    def publish(self, message: Metadata) -> bool:
        """Publish a raw message; a `timestamp` is added. One of a known type counts as that event."""
        try:
            text = dict.get(message, "full_text") if isinstance(message, dict) else None
            spare = len(text) if isinstance(text, str) else 0  # a token's whole text is no part of the event
            plain = values.plain(message, "message", self._max_bytes + spare)
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
                plain = values.plain(value, name, self._max_bytes)
                if plain is None and name == "retry_count" and kind is StageFailed:
                    plain = 0  # an end is an end, whatever its count
                fields[name] = plain
                if isinstance(plain, bool) or not isinstance(plain, _ACCEPTED_TYPES[name]):
                    raise InvalidEvent(f"{name} cannot be a {type(value).__name__}")
            event = kind(
                project=self.topic.project,
                stage=self.stage,
                timestamp=self._clock(),
                headers=self._headers,
                **fields,
            )
        except (InvalidEvent, EventTooLarge) as error:
            return self._refuse(error)
        return self._accept(event)

    def _accept(self, event: Event) -> bool:
        if (refusal := self._refusal(is_failure=isinstance(event, StageFailed))) is not None:
            return self._refuse(refusal)
        try:
            size = len(self._codec.encode(event))
        except InvalidEvent as error:
            return self._refuse(error)
        if size > self._max_bytes:
            return self._refuse(EventTooLarge(f"{event.type} of {size} bytes; the limit is {self._max_bytes}"))
        self._outbox.add(event)
        self._producer.wake()
        return True

    def _refusal(self, *, is_failure: bool = False) -> StagecastError | None:
        producer = self._producer
        if producer.superseded:
            return RunSuperseded("a newer run or attempt has taken this stage over")
        if producer.cancelled and self.strict and not is_failure:  # a cancelled run's end may be told
            return RunCancelled(f"run {self.run_id} was cancelled")
        if producer.closing:
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

    async def opened(self, timeout: float) -> Opened | None:
        """The bus's answer to the opening of a `TaskRun`; None where it did not come within `timeout` seconds."""
        return await self._producer.opened(timeout)

    async def flush(self, timeout: float | None = None) -> bool:
        """Wait until the bus has acknowledged everything accepted before.

        False when `timeout` seconds did not suffice, or when something since the last flush was refused.
        """
        return await self._producer.flush(timeout)

    async def run(self) -> None:
        """Deliver until `close()` was called and everything is delivered; then give the lease back."""
        await self._producer.run()

    def keep_lease(self) -> None:
        """Let `run()` end without giving the lease back. Comes first where the process dies: nothing can undo it."""
        self._producer.keeps_lease = True

    def close(self) -> None:
        """Accept nothing more; `run()` ends once everything is delivered, and gives the lease back then."""
        self._producer.close()


def _told(error: object) -> str:
    """The text of `error`, or its type's name: publishing a failure must not fail for the failure's own faults."""
    try:
        return str(error)
    except Exception:
        return type(error).__name__
