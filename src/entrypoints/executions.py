"""One execution of a Celery task: an attempt at its run, and what its end means. Sends and stores nothing.

What is published when stands in `stagecast.entrypoints.celery`, the only module that uses this one.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from attrs import define
from celery import current_task
from celery.app.task import Context
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from celery.utils import uuid

from stagecast.domain.bus import MessageBus
from stagecast.domain.errors import RunCancelled, RunSuperseded, StagecastError
from stagecast.domain.events import FailureReason
from stagecast.domain.ledger import LAPSE_MESSAGES
from stagecast.domain.producing import TaskRun
from stagecast.domain.topics import Id

from . import failures, runs
from .publishers import RedisStreamPublisher

OPENING_SECONDS = 2.0
"""How long a start waits to learn whether its run still counts. After that it executes: the bus may be away."""
TIMEOUT_MESSAGE = "The time limit was exceeded."
SUPERSEDED_MESSAGE = "A newer run or attempt has taken the stage over."


@define(eq=False)
class Execution:
    """One attempt of a task, and what it has told its viewers so far."""

    publisher: RedisStreamPublisher
    retries: int
    is_member: bool
    is_retried: bool = False
    is_cancelled: bool = False
    """The task has returned, and its run had been cancelled before its end was published."""


_current: ContextVar[Execution | None] = ContextVar("stagecast_execution", default=None)
eager_group: ContextVar[str | None] = ContextVar("stagecast_eager_group", default=None)
"""The group of an eager task, whose request does not tell it."""


def current_execution() -> Execution | None:
    """The one in this thread, or green thread."""
    return _current.get()


@contextmanager
def executing(
    project_id: Id,
    stage_name: Id,
    request: Context | None,
    bus: str | MessageBus | None,
    timeout: float,
    strict: bool,
) -> Iterator[Execution]:
    if request is None and current_task:  # type: ignore[truthy-bool]  # a proxy
        request = current_task.request
    task = (request and request.id) or uuid()
    group = (request and request.group) or eager_group.get()
    attempt = TaskRun(run=group or task, task=task)
    with RedisStreamPublisher(
        project_id, stage_name, bus=bus, task=attempt, timeout=timeout, strict=strict
    ) as publisher:
        publisher.opened(min(timeout, OPENING_SECONDS))
        if publisher.cancelled:
            raise RunCancelled(f"run {publisher.run_id} was cancelled before its start")
        if publisher.superseded:
            raise RunSuperseded(f"run {publisher.run_id} was superseded before its start")
        publisher.publish_stage_update("processing", 0 if group is None else None)
        execution = Execution(publisher, request.retries if request else 0, group is not None)
        token = _current.set(execution)
        try:
            yield execution
        except BaseException as error:
            with suppress(StagecastError):  # the publisher is strict, and what it refuses is logged
                _failed(execution, error)
            raise
        else:
            with suppress(StagecastError):
                _succeeded(execution)
        finally:
            _current.reset(token)


def _succeeded(execution: Execution) -> None:
    publisher = execution.publisher
    if publisher.has_ended or execution.is_retried:
        return
    execution.is_cancelled = publisher.cancelled
    if publisher.superseded or execution.is_member:  # a group's cancelled run ends with its last lease
        return
    if execution.is_cancelled:
        publisher.publish_error(LAPSE_MESSAGES["cancelled"], execution.retries, reason="cancelled")
    else:
        publisher.publish_done(full_text=publisher.text)


def refuse_success(execution: Execution) -> None:
    """Raise where a task's return counts for nothing, so that Celery doesn't go on with what follows its success."""
    if execution.is_cancelled:
        raise RunCancelled(LAPSE_MESSAGES["cancelled"])
    if execution.publisher.superseded and not (execution.publisher.has_ended or execution.is_retried):
        raise RunSuperseded(SUPERSEDED_MESSAGE)


def _failed(execution: Execution, error: BaseException) -> None:
    publisher = execution.publisher
    if not isinstance(error, Exception):  # SystemExit at a hard time limit, a revocation, a shutdown: the process dies
        publisher.leave()
        return
    if publisher.has_ended or publisher.superseded:
        return
    match error:
        case Retry():
            announce_retry(execution, error.exc)
            return
        case Ignore():
            return  # it is somebody else's now: only the lease goes back
        case Reject() if error.requeue:  # type: ignore[attr-defined]
            return  # it will be delivered again
    reason: FailureReason = "exception"
    if publisher.cancelled or isinstance(error, RunCancelled):
        reason, text = "cancelled", LAPSE_MESSAGES["cancelled"]
    elif isinstance(error, SoftTimeLimitExceeded):
        reason, text = "timeout", TIMEOUT_MESSAGE
    else:
        text = failures.told("The task failed", error, _where(publisher))
    publisher.publish_error(text, execution.retries, reason=reason)


def announce_retry(execution: Execution, error: BaseException | None) -> None:
    """Publish once that the attempt will be followed by another."""
    publisher = execution.publisher
    if execution.is_retried or publisher.has_ended:
        return  # after an `error` of the task's own it would begin another run
    execution.is_retried = True
    message = None
    if error is not None:
        message = failures.told("The task is tried again", error, _where(publisher), final=False)
    with suppress(StagecastError):
        publisher.publish_stage_update("retrying", message=message, retry_count=execution.retries + 1)
        publisher.flush(runs.PATIENCE)


def _where(publisher: RedisStreamPublisher) -> str:
    return f"{publisher.project_id}/{publisher.stage_name}: run {publisher.run_id}"
