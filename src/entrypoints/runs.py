"""What a synchronous caller does to a run from outside: announce, end, cancel it, look for it. Knows no Celery."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any
from uuid import uuid4

from stagecast.domain import values
from stagecast.domain.bus import Batch, MessageBus, Opening, Snapshot
from stagecast.domain.errors import BusUnavailable, StagecastError
from stagecast.domain.events import FailureReason, StageFailed, StageUpdated
from stagecast.domain.topics import Topic

from .background import background

logger = logging.getLogger("stagecast.runs")

PATIENCE = 1.0
"""Seconds that a caller waits for the bus, which only gives these calls their order; nothing depends on them."""

_silent: set[int] = set()
"""The buses (by identity) that did not answer the last time."""


def announce(bus: MessageBus, topic: Topic, run: str, task: str) -> bool:
    """Publish that `run` waits for its start; a no-op for a known run. True where the bus has answered.

    Waits at most a second, and not at all while the bus is known not to answer: a dead bus holds up no enqueuing.
    """
    event = StageUpdated(project=topic.project, stage=topic.one_stage, timestamp=time.time(), status="queued")
    opening = Opening(topic=topic, run=run, task=task, nonce=uuid4().hex, producer=uuid4().hex, queued=event)
    answer = background().spawn(_within(PATIENCE, bus.open_run(opening)))
    answer.add_done_callback(lambda done: _note_silence(bus, done))
    try:
        answer.result(0 if id(bus) in _silent else PATIENCE)
    except (TimeoutError, StagecastError) as error:
        logger.info("%s/%s: run %s is not announced: %r", topic.project, topic.stage, run, error)
        return False
    return True


def end(bus: MessageBus, topic: Topic, run: str, error: object, reason: FailureReason, *, wait: float = 0.0) -> None:
    """End `run` with `error` if it is the stage's current one and in progress. Goes on after `wait` seconds."""
    _in_background(_end(bus, topic, run, str(error), reason), wait)


def cancel(bus: MessageBus, topic: Topic, run: str, error: object) -> None:
    """Ask `run` to stop, and end it at once: for a run whose worker is known to be dead or not to begin."""

    async def cancel_and_end() -> None:
        await bus.cancel(topic, run)
        await _end(bus, topic, run, str(error), "cancelled")

    _in_background(cancel_and_end(), 0.0)


def is_current(bus: MessageBus, topic: Topic, run: str) -> bool:
    """Whether `run` is its stage's newest. True also where the bus does not say so within a second."""

    async def asked() -> bool:
        async with asyncio.timeout(PATIENCE), bus.subscribe(topic) as subscription:
            first = await anext(subscription)
        state = first.stages.get(topic.one_stage) if isinstance(first, Snapshot) else None
        return state is None or state.run == run

    try:
        return background().call(asked(), 2 * PATIENCE)
    except (TimeoutError, StagecastError):
        return True


async def _end(bus: MessageBus, topic: Topic, run: str, error: str, reason: FailureReason) -> None:
    async with bus.subscribe(topic) as subscription:
        first = await anext(subscription)
    state = first.stages.get(topic.one_stage) if isinstance(first, Snapshot) else None
    if state is None or state.run != run or not state.in_progress:
        return
    event = StageFailed(
        project=topic.project,
        stage=topic.one_stage,
        timestamp=time.time(),
        error=values.sound(error, "error"),
        reason=reason,
    )
    await bus.publish(Batch(topic=topic, producer=uuid4().hex, first=1, events=(event,), run=run, release=True))


async def _within(seconds: float, call: Coroutine[Any, Any, object]) -> None:
    async with asyncio.timeout(seconds):
        await call


def _in_background(call: Coroutine[Any, Any, None], wait: float) -> None:
    answer = background().spawn(_within(10 * PATIENCE, call))
    answer.add_done_callback(_log_failure)
    if wait:
        with suppress(TimeoutError, StagecastError):  # it is logged, and a lease or the queue's deadline ends the run
            answer.result(wait)


def _note_silence(bus: MessageBus, answer: "Future[None]") -> None:
    if not answer.cancelled() and isinstance(answer.exception(), TimeoutError | BusUnavailable):
        _silent.add(id(bus))
    else:
        _silent.discard(id(bus))


def _log_failure(answer: "Future[None]") -> None:
    if not answer.cancelled() and (error := answer.exception()) is not None:
        logger.warning("a run could not be ended: %r", error)
