"""The synchronous subscriber with the seed's names: messages as dicts, for any number of threads."""

import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self

from stagecast.domain.bus import MessageBus
from stagecast.domain.errors import BusUnavailable, StagecastError
from stagecast.domain.events import JSON
from stagecast.domain.following import Shown
from stagecast.domain.positions import Position
from stagecast.domain.topics import Id, Topic

from .background import MARGIN, Background, background, bus_of
from .messages import message
from .read_ahead import ReadAhead, Ready

CHANNEL = "ai_story:project:{}:stage:{}"


class RedisStreamSubscriber:
    """Follows one stage of a project, or with `stage_name` None all its stages, on any bus (a URL, a bus, or None).

    The subscription stands when the constructor returns: what is published from then on is received, and a run in
    progress is shown first. `last_id`, the `id` of a message, resumes after that message. Safe for several threads:
    each message goes to one of them. In a forked child it subscribes anew, from where it was.

    Raises BusUnavailable where the bus does not answer within `timeout` seconds, InvalidTopic, InvalidPosition,
    NotConfigured.
    """

    def __init__(
        self,
        project_id: Id,
        stage_name: Id | None = None,
        *,
        bus: str | MessageBus | None = None,
        last_id: str | None = None,
        timeout: float = 5.0,
    ) -> None:
        self._topic = Topic.of(project_id, stage_name)
        self._bus, self._timeout = bus, timeout
        self._after = None if last_id is None else Position.parse(last_id)
        self._is_closed = False
        self._background = background()
        self._opening = threading.Lock()
        self._ahead: ReadAhead | None = None
        self._finalizer: weakref.finalize[[Background, ReadAhead], RedisStreamSubscriber] | None = None
        self.subscribe()

    @property
    def project_id(self) -> str:
        return self._topic.project

    @property
    def stage_name(self) -> str | None:
        return self._topic.stage

    @property
    def last_id(self) -> str | None:
        """The `id` of the last message that was returned and has one."""
        position = self._ahead.position if self._ahead else self._after
        return None if position is None else str(position)

    def subscribe(self) -> None:
        """Subscribe, after `unsubscribe` from where that was. Nothing happens where the subscription stands."""
        self._standing()

    def unsubscribe(self) -> None:
        """End the subscription; whoever waits for a message gets none."""
        with self._opening:
            self._drop()

    def close(self) -> None:
        """End the subscription for good. Idempotent."""
        self._is_closed = True
        self.unsubscribe()

    def get_message(self, timeout: float | None = 1.0) -> dict[str, JSON] | None:
        """The next message; None where none came within `timeout` seconds (None waits without a limit)."""
        ahead = self._standing()
        taken = self._take(ahead, timeout, None)
        return self._message(taken.shown) if taken else None

    def listen(self, timeout: float | None = None) -> Iterator[dict[str, JSON]]:
        """Messages until the stage (done, error) or the project (pipeline_done, pipeline_error) ends.

        Ends also after `timeout` seconds without a message, and where another thread closes the subscriber. The
        subscriber stays usable: what comes later, the next call gives.
        """
        ahead = self._standing()
        ends = ahead.ends
        while taken := self._take(ahead, timeout, ends):
            yield self._message(taken.shown)
            if taken.ends:
                return

    def _take(self, ahead: ReadAhead, timeout: float | None, ends: int | None) -> Ready | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        loop = self._background
        while True:
            version = ahead.version
            if ends is not None and ahead.ends != ends:
                return None  # another thread was given the end
            if (taken := ahead.take(loop)) is not None:
                return taken
            if ahead.is_over:
                self._report(ahead)
                return None
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            try:
                changed = loop.call(ahead.changed(version, left), None if left is None else left + MARGIN)
            except TimeoutError:
                changed = False
            if not changed:
                return ahead.take(loop)

    def _report(self, ahead: ReadAhead) -> None:
        """Raise what has ended the subscription, unless it was the caller."""
        with self._opening:
            if self._ahead is not ahead:
                return  # another thread has unsubscribed
            self._drop()  # the next call subscribes again
        raise ahead.error or BusUnavailable("the bus was closed")

    def _message(self, shown: Shown) -> dict[str, JSON]:
        content = message(shown)
        stage = shown.content.stage
        return {**content, "channel": CHANNEL.format(self._topic.project, "*" if stage is None else stage)}

    def _standing(self) -> ReadAhead:
        with self._opening:
            if self._is_closed:
                raise StagecastError("the subscriber is closed")
            if self._ahead is not None and not self._background.is_current:
                self._drop()
            if self._ahead is None:
                self._background = background()
                ahead = ReadAhead(bus_of(self._bus), self._topic, self._after)
                try:
                    self._background.call(ahead.open(), self._timeout)
                except TimeoutError as error:
                    raise BusUnavailable(f"no subscription within {self._timeout} s") from error
                self._ahead = ahead
                self._finalizer = weakref.finalize(self, _abandon, self._background, ahead)
                self._finalizer.atexit = False
            return self._ahead

    def _drop(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return
        self._after = ahead.position
        if self._finalizer is not None:
            self._finalizer.detach()
        if self._background.is_current:
            with suppress(TimeoutError):  # the bus does not answer; the subscription is cancelled anyway
                self._background.call(ahead.close(), self._timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _abandon(owner: Background, ahead: ReadAhead) -> None:
    """Close what nobody closed. The collector may call this anywhere: it only asks."""
    if owner.is_current:
        owner.soon(ahead.stop)
