"""One producer's conversation with the bus: its run, its sequence, its lease, and the task that delivers its outbox.

A batch whose answer is unknown is sent again as it was; the bus skips what it already has. What the bus has lost is put
back in front of what waits.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar
from uuid import uuid4

from attrs import field, frozen

from . import backoff
from .bus import Batch, MessageBus, Opened, Opening, Receipt
from .errors import BusUnavailable, StagecastError
from .events import Event
from .outbox import Outbox
from .positions import Position
from .topics import Topic

logger = logging.getLogger("stagecast.publisher")

RENEWAL = 0.75
"""Seconds between two signs of life of a producer that has nothing to send: it learns of a cancel within a second."""
LONGEST_PAUSE = 2.0
"""Seconds, at the most, between two attempts to reach a bus that is away; a quarter of a lease where that is less."""

BURST = 1.0
"""Seconds' worth of events that may go at once where the bus bounds their rate."""
LOOK = 0.05
"""Seconds between two looks, while events wait for the rate, whether the run ends."""

_Answer = TypeVar("_Answer")


@frozen(kw_only=True)
class TaskRun:
    """The run and task that a worker executes; a new nonce is a new execution (`stagecast.domain.bus.Opening`)."""

    run: str
    task: str
    nonce: str = field(factory=lambda: uuid4().hex)


class Producer:
    """Delivers `outbox` to `topic`, one stage, in its own task: `run()`. The rest may be called from any thread."""

    def __init__(self, bus: MessageBus, topic: Topic, outbox: Outbox, task: TaskRun | None) -> None:
        self.id = uuid4().hex
        self.run_id: str | None = task.run if task else None
        """The run that the producer belongs to, once the bus has told it."""
        self.attempt = 0
        """The number of the task's attempt, from 1; 0 until the bus has numbered it, and outside a task."""
        self.cancelled = False
        """Whether the run was asked to stop."""
        self.superseded = False
        """Whether a newer run or attempt has taken the stage over."""
        self.is_writer = True
        """False once the bus has refused a token because another producer writes the text."""
        self.closing = False
        self.keeps_lease = False
        """The lease is not given back at the end: the run ends as that of somebody who has died."""
        self._bus, self._topic, self._outbox, self._task = bus, topic, outbox, task
        self._sequence = 0
        self._opened: Opened | None = None
        self._acknowledged: Position | None = None
        self._new_run = uuid4().hex
        self._finished = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sleeper: asyncio.Future[bool] | None = None
        self._sleeps_until_due = False
        self._signalled = True
        """Nobody need wake the delivering task: it is awake, and looks at the outbox before it sleeps, or woken."""
        self._next = 0.0
        """When, by the loop's clock, the next batch may go that is not due."""
        self._paid_until = 0.0
        """When, by the loop's clock, all that was sent would have gone at the bus's rate."""
        self._gathers = False
        """The last batch had to wait, so the next is expected to."""
        self._waiters: list[asyncio.Future[None]] = []

    def wake(self) -> None:
        """There is something to do. Costs its caller tens of microseconds, so only who must does wake the loop."""
        if self._signalled or (self._sleeps_until_due and not self._is_due) or self._loop is None:
            return
        self._signalled = True
        with suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(self._end_sleep, True)

    @property
    def _is_due(self) -> bool:
        return self._outbox.is_due or self.closing

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
        self.wake()
        delivered = await self._until(lambda: outbox.settled >= target, timeout)
        refused, outbox.refused = outbox.refused, 0
        return delivered and not refused

    def close(self) -> None:
        """Accept nothing more; `run()` ends once everything is delivered, and gives the lease back then."""
        self._outbox.mark()
        self.closing = True
        self.wake()

    async def _until(self, reached: Callable[[], bool], timeout: float | None) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not (reached() or self._finished):
                    waiter = asyncio.get_running_loop().create_future()
                    self._waiters = [*(one for one in self._waiters if not one.done()), waiter]
                    await waiter
        return reached()

    async def run(self) -> None:
        """Deliver until `close()` was called and everything is delivered; then give the lease back."""
        self._loop = asyncio.get_running_loop()
        try:
            if self._task is not None and not await self._open(self._task):
                self._outbox.give_up_all()
            while not (self._outbox.is_empty and self.closing):
                is_silent = not await self._gathered()
                if not self._outbox.is_empty:
                    await self._pace()
                    self._set_next(self._loop.time(), self._outbox.limits.linger)
                    await self._deliver()
                elif is_silent and self.run_id is not None and not self.superseded:
                    await self._deliver()
            if not self.keeps_lease:
                await self._release()
        finally:
            self._finished = True
            self._announce()

    async def _pace(self) -> None:
        """Wait until more may go (`BusLimits.events_per_second`); no longer than the end of a run takes to come.

        A batch is at most half a second's worth, so signs of life need no care of their own.
        """
        assert self._loop is not None
        while not (self.closing or self._outbox.has_end):
            ahead = self._paid_until - BURST - self._loop.time()
            if ahead <= 0:
                return
            await asyncio.sleep(min(ahead, LOOK))

    def _set_next(self, now: float, linger: float) -> None:
        # A timer is some late: counted from when it was due, the batches keep their rate, and delays do not add up.
        is_timed = 0 <= now - self._next < linger / 2
        self._next = (self._next if is_timed else now) + linger

    async def _gathered(self) -> bool:
        """Wait for something to do, and for what may go with it; False after a renewal interval without anything.

        The first event after a pause goes at once. What follows within `OutboxLimits.linger` of the batch before goes
        together at the end of that time, or as soon as the outbox is due.
        """
        assert self._loop is not None
        if self._gathers or not self._outbox.is_empty:
            await self._sleep(self._next, until_due=True)
        self._gathers = not self._outbox.is_empty
        if not self._gathers and not await self._sleep(
            self._loop.time() + min(RENEWAL, self._bus.limits.lease / 5), until_due=False
        ):
            return False
        if not self._gathers and self._loop.time() < self._next:
            await self._sleep(self._next, until_due=True)
            self._gathers = True
        return True

    async def _sleep(self, deadline: float, *, until_due: bool) -> bool:
        """Sleep until the outbox is due, or has anything at all; False where it is `deadline` before that."""
        assert self._loop is not None
        self._sleeps_until_due, self._signalled = until_due, False
        try:
            # looked at after the flags: who has added something before they were set has woken nobody
            if self._is_due or not (until_due or self._outbox.is_empty):
                return True
            if deadline <= self._loop.time():
                return False
            self._sleeper = self._loop.create_future()
            timer = self._loop.call_at(deadline, self._end_sleep, False)
            try:
                return await self._sleeper
            finally:
                timer.cancel()
                self._sleeper = None
        finally:
            self._signalled = True

    def _end_sleep(self, is_woken: bool) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(is_woken)

    async def _open(self, task: TaskRun) -> bool:
        opening = Opening(topic=self._topic, run=task.run, task=task.task, nonce=task.nonce, producer=self.id)
        try:
            self._opened = await self._retry(lambda: self._bus.open_run(opening))
        except StagecastError as error:
            logger.warning("%s: the run cannot be opened: %s", self._topic, error)
            self.superseded = True
        else:
            self.attempt, self._acknowledged = self._opened.attempt, self._opened.position
            self.cancelled = self._opened.cancelled
            self.superseded = self.cancelled
        self._announce()
        return not self.superseded

    async def _release(self) -> None:
        """Give the lease back; restore what the bus has lost first, for nobody will do so later."""
        while self.run_id is not None and not self.superseded:
            receipt = await self._send((), release=True)
            if receipt.need is None or receipt.superseded:
                return
            self._outbox.put_back((), receipt.need, writes_text=self.is_writer)
            while not self._outbox.is_empty:
                await self._deliver()

    async def _deliver(self) -> None:
        """Send the next batch, or a sign of life where there is none; put in front of the next what is still due."""
        batch, loop = self._outbox.take(), asyncio.get_running_loop()
        self._paid_until = max(self._paid_until, loop.time()) + len(batch) / self._bus.limits.events_per_second
        if self._outbox.is_due:  # made while the bus is at this one
            loop.call_soon(self._outbox.prepare)
        try:
            receipt = await self._send(tuple(sent.event for sent in batch))
        except StagecastError as error:
            logger.error("%s: %d events are lost: %s", self._topic, len(batch), error)
            self._outbox.give_up(batch)
            self._announce()
            return
        self._sequence += receipt.applied
        if receipt.run is not None and receipt.run != self.run_id:
            self._outbox.forget_run()
            self.run_id, self.is_writer = receipt.run, True
        if receipt.superseded:
            logger.warning("%s: a newer run or attempt has taken over", self._topic)
            self.superseded = True
            self._outbox.give_up(batch)
            self._outbox.give_up_all()
        else:
            self._outbox.settle(batch[: receipt.applied])
            self._outbox.refused += receipt.refused
            self._watch_text(receipt)
            self._outbox.put_back(batch[receipt.applied :], receipt.need, writes_text=self.is_writer)
        self._announce()

    def _watch_text(self, receipt: Receipt) -> None:
        if receipt.foreign_text and self.is_writer:
            self.is_writer = False
            logger.warning("%s: another producer writes this stage's text", self._topic)

    async def _send(self, events: tuple[Event, ...], *, release: bool = False) -> Receipt:
        batch = Batch(
            topic=self._topic,
            producer=self.id,
            first=self._sequence + 1,
            events=events,
            run=self.run_id,
            task=self._task.task if self._task else None,
            attempt=self.attempt,
            new_run=self._new_run,
            acknowledged=self._acknowledged,
            release=release,
        )
        receipt = await self._retry(lambda: self._bus.publish(batch))
        self._acknowledged = receipt.position or self._acknowledged
        if receipt.run == self._new_run:
            self._new_run = uuid4().hex
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
                    logger.warning("%s: the bus is away, events wait: %s", self._topic, error)
                failures += 1
                longest = min(LONGEST_PAUSE, self._bus.limits.lease / 4)
                await asyncio.sleep(backoff.pause(failures, longest))
            else:
                if failures:
                    logger.info("%s: the bus is back", self._topic)
                return answer

    def _announce(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
