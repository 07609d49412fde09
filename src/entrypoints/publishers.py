"""The synchronous publisher with the seed's names: accepts in microseconds, delivers on the background thread."""

import threading
import weakref
from collections.abc import Mapping
from concurrent.futures import wait
from contextlib import suppress
from types import TracebackType
from typing import Self

from stagecast.domain.bus import MessageBus, Opened
from stagecast.domain.errors import BusUnavailable, PublishFailed, RunSuperseded, StagecastError
from stagecast.domain.events import FINAL_STATUSES, FailureReason, Metadata
from stagecast.domain.outbox import OutboxLimits
from stagecast.domain.producing import TaskRun
from stagecast.domain.publishing import StagePublisher
from stagecast.domain.topics import Id, Topic

from .background import MARGIN, Background, Delivery, background, bus_of
from .wiring import CODEC

_OUTCOMES = frozenset({"done", "error"})
_TERMINAL = _OUTCOMES | {"pipeline_done", "pipeline_error"}


class RedisStreamPublisher:
    """Publishes one stage of a project, from any thread, on any bus (`bus`: a URL or a bus; None for the configured).

    Nothing waits for the network but the terminal calls (done, error, pipeline_done, pipeline_error), `flush` and
    `close`, each at most `timeout` seconds: they return True only when the bus has acknowledged everything. What is
    undelivered then stays with the background thread, lease kept, until it is delivered or the process ends. The
    other calls return True when the event is accepted for delivery, False when it is refused. With `strict` they
    raise instead: InvalidEvent, EventTooLarge, RunSuperseded, RunCancelled, PublishFailed.

    In a forked child the publisher begins anew, as another producer; what its parent had accepted, the parent
    delivers. One that is garbage-collected is closed without waiting. Tokens that come within `linger` seconds (25 ms)
    of the last batch go together, up to that much later. Raises InvalidTopic, NotConfigured, and ValueError for a
    `linger` that is not between 0 and 0.5.
    """

    def __init__(
        self,
        project_id: Id,
        stage_name: Id,
        *,
        bus: str | MessageBus | None = None,
        strict: bool = False,
        task: TaskRun | None = None,
        timeout: float = 5.0,
        headers: Mapping[str, str] | None = None,
        linger: float | None = None,
    ) -> None:
        self._topic = Topic.of(project_id, stage_name)
        self._bus = bus
        self._strict, self._task, self._headers = strict, task, headers
        self._limits = OutboxLimits() if linger is None else OutboxLimits(linger=linger)
        self._timeout = timeout
        self._is_late = False
        self._has_ended = False
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._background = background()
        stage = StagePublisher(
            bus_of(self._bus),
            self._topic,
            CODEC,
            task=self._task,
            strict=self._strict,
            headers=self._headers,
            limits=self._limits,
        )
        self._delivery = self._background.deliver(stage)
        self._finalizer = weakref.finalize(self, _abandon, self._background, self._delivery)
        self._finalizer.atexit = False

    @property
    def _stage(self) -> StagePublisher:
        if not self._background.is_current:
            self._begin_in_child()
        return self._delivery.publisher

    def _begin_in_child(self) -> None:
        lock, before = self._lock, self._background
        with lock:
            if self._background is before:
                self._finalizer.detach()
                self._begin()

    @property
    def project_id(self) -> str:
        return self._topic.project

    @property
    def stage_name(self) -> str:
        return self._stage.stage

    @property
    def run_id(self) -> str | None:
        """The run that the publisher belongs to, once the bus has told it; a task's from the start."""
        return self._stage.run_id

    @property
    def attempt(self) -> int:
        """The number of the task's attempt, from 1; 0 until the bus has numbered it, and outside a task."""
        return self._stage.attempt

    @property
    def text(self) -> str:
        """The text published so far."""
        return self._stage.text

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to stop: a long job should look now and then. At most a second old."""
        return self._stage.cancelled

    @property
    def superseded(self) -> bool:
        """Whether a newer run or attempt has taken the stage over: nothing published here counts any more."""
        return self._stage.superseded

    @property
    def has_ended(self) -> bool:
        """Whether the run was ended here, by done or error, and nothing has begun another one since."""
        return self._has_ended

    def publish(self, message: Metadata) -> bool:
        """Publish a raw message; a `timestamp` is added. One of a known type counts as that event."""
        accepted = self._stage.publish(message)
        kind = message.get("type")
        if accepted and kind == "token":
            self._has_ended = False
        elif accepted and kind == "stage_update":
            self._has_ended = self._has_ended and message.get("status") in FINAL_STATUSES
        return self._terminal(accepted, is_outcome=kind in _OUTCOMES) if kind in _TERMINAL else accepted

    def publish_token(self, content: str, full_text: str | None = None) -> bool:
        """Publish a piece of text. A `full_text` that is not the text so far plus `content` begins the text anew."""
        accepted = self._stage.publish_token(content, full_text)
        if accepted:
            self._has_ended = False
        return accepted

    def publish_stage_update(
        self, status: str, progress: float | None = None, message: str | None = None, *, retry_count: int | None = None
    ) -> bool:
        """Publish a change of status; `progress` in percent."""
        accepted = self._stage.publish_stage_update(status, progress, message, retry_count=retry_count)
        if accepted and status not in FINAL_STATUSES:
            self._has_ended = False
        return accepted

    def publish_progress(self, current: float, total: float, item_name: str | None = None) -> bool:
        """Publish progress through a batch: `progress` becomes `int(current / total * 100)`, 0 where total is 0."""
        return self._stage.publish_progress(current, total, item_name)

    def publish_item_completed(self, item_type: str, sequence_number: int, metadata: Metadata | None = None) -> bool:
        """Publish that one item of a batch (an image, a camera move, a video) is ready."""
        return self._stage.publish_item_completed(item_type, sequence_number, metadata)

    def publish_done(self, full_text: str = "", metadata: Metadata | None = None) -> bool:
        """Publish the successful end of the run, and wait for the acknowledgement."""
        return self._terminal(self._stage.publish_done(full_text, metadata), is_outcome=True)

    def publish_stage_completed(self, metadata: Metadata | None = None) -> bool:
        """Publish that viewers should refresh what they show of the stage. Not an end."""
        return self._stage.publish_stage_completed(metadata)

    def publish_error(self, error: object, retry_count: int = 0, *, reason: FailureReason = "exception") -> bool:
        """Publish the failed end of the run, and wait for the acknowledgement."""
        return self._terminal(self._stage.publish_error(error, retry_count, reason=reason), is_outcome=True)

    def publish_pipeline_done(self, metadata: Metadata | None = None) -> bool:
        """Publish that all stages of the project are done, and wait for the acknowledgement."""
        return self._terminal(self._stage.publish_pipeline_done(metadata))

    def publish_pipeline_error(self, error: object, metadata: Metadata | None = None) -> bool:
        """Publish that the project's pipeline has failed, and wait for the acknowledgement."""
        return self._terminal(self._stage.publish_pipeline_error(error, metadata))

    def _terminal(self, accepted: bool, *, is_outcome: bool = False) -> bool:
        if not accepted:
            return False
        delivered = False
        try:
            delivered = self.flush(self._timeout)
        finally:
            if is_outcome:  # held for a bus that is away it will end the run, refused it will not
                self._has_ended = self._has_ended or delivered or not self._stage.superseded
        return delivered

    def opened(self, timeout: float) -> Opened | None:
        """The bus's answer to the beginning of a task's attempt; None where it took longer than `timeout` seconds."""
        try:
            return self._background.call(self._stage.opened(timeout), timeout + MARGIN)
        except (TimeoutError, BusUnavailable):
            return None

    def flush(self, timeout: float | None = 5.0) -> bool:
        """Wait until the bus has acknowledged everything accepted so far; None waits without a limit.

        False (`strict`: PublishFailed, RunSuperseded) where `timeout` seconds did not suffice, or where the bus has
        refused something since the last flush.
        """
        stage = self._stage
        try:
            delivered = self._background.call(stage.flush(timeout), None if timeout is None else timeout + MARGIN)
        except (TimeoutError, BusUnavailable):
            delivered = False
        self._is_late = not delivered and not stage.superseded
        if not delivered and self._strict:
            if stage.superseded:
                raise RunSuperseded("a newer run or attempt has taken this stage over")
            raise PublishFailed(f"not acknowledged within {timeout} s, or refused by the bus")
        return delivered

    def close(self) -> bool:
        """Accept nothing more and give the lease back when all is delivered; True where that is so at the return.

        Waits at most `timeout` seconds, and not at all where a terminal call has just waited in vain. Never raises.
        """
        if not self._background.is_current:
            return True  # made before a fork, and not used since
        self._delivery.close()
        done = self._delivery.done
        wait([done], 0 if self._is_late else self._timeout)
        delivered = done.done() and not done.cancelled() and done.exception() is None
        self._is_late = not delivered
        return delivered

    def leave(self, timeout: float = 1.0) -> None:
        """Fall silent without giving the lease back: the run ends as a killed process's does, unless others go on.

        Waits at most `timeout` seconds for what is undelivered, and drops the rest.
        """
        if self._background.is_current and not self._delivery.is_closing:
            self._delivery.publisher.keep_lease()  # first: a second signal may interrupt what follows
            with suppress(TimeoutError, StagecastError):
                self._background.call(self._delivery.publisher.flush(timeout), timeout + MARGIN)
            self._delivery.done.cancel()
            self._delivery.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _abandon(owner: Background, delivery: Delivery) -> None:
    """Close what nobody closed. The collector may call this anywhere, also inside the outbox's lock: it only asks."""
    if owner.is_current:
        owner.soon(delivery.close)
