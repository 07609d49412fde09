"""Celery tasks that stream a stage: what a task's start, retry, failure and success mean for the run that it executes.

    @app.task(base=StageTask, bind=True, stage="rewrite")
    def rewrite(self, project_id, prompt):
        for token in generate(prompt):
            self.publisher.publish_token(token)

The bus is `app.conf.stagecast_bus` (a URL or a bus), else the configured one (`stagecast.entrypoints.configuration`).

* **Run.** Its id is the task's, or the group's for a group's members; each execution is an attempt that fences the one
  before. `queued` is published before the message is sent, `processing` at the start.
* **Retry**, explicit or by `autoretry_for`: `retrying` with `retry_count`, before the retry is sent. Not an end.
* **Failure** for good: `error`; reason `timeout` after a soft time limit, `cancelled` where the run was cancelled. A
  process that is killed or terminated is noticed by its lease; a hard time limit and a revocation are published by the
  worker's main process. Of an exception viewers are told, here and for a retry, what `celery.error_text` allows:
  by default an id that stands in the log too (`stagecast.entrypoints.failures`).
* **Success**: `done` with the published text, unless the task published `done` or `error` itself. A group's member only
  gives its lease back: it is for the chord's body, or who joins the group, to publish the end. Nor does a member's
  start set the progress back to 0.
* **Not executed**, and revoked for Celery (so that chords and waiting callers learn it): a task whose run was cancelled
  before its start, or whose stage has a newer run: its output would be refused, so it is not paid for.
* **Cancelled or overtaken in the middle**: a task that then returns, or raises RunCancelled or RunSuperseded (with
  `strict` its publisher does), is revoked for Celery too: nothing that waits for its success goes on. An attempt that a
  newer one of the same task has fenced is ignored: what Celery keeps of the task is the newer one's to say.
* A bus that cannot be reached keeps no task from being sent or executed.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

from stagecast.domain.bus import MessageBus
from stagecast.domain.errors import NotConfigured, RunCancelled, RunSuperseded
from stagecast.domain.ledger import LAPSE_MESSAGES
from stagecast.domain.topics import Id, Topic

from . import failures, runs
from .background import bus_of, drain
from .publishers import RedisStreamPublisher

try:
    import celery
    from billiard.process import current_process
    from celery import signals
    from celery.app.task import Context
    from celery.exceptions import Ignore, Reject, Retry, TimeLimitExceeded
    from celery.utils import uuid
except ModuleNotFoundError as error:
    raise NotConfigured(f"tasks need the package {error.name}: pip install 'stagecast[celery]'") from error

from .executions import (
    SUPERSEDED_MESSAGE,
    TIMEOUT_MESSAGE,
    Execution,
    announce_retry,
    current_execution,
    eager_group,
    executing,
    refuse_success,
)

logger = logging.getLogger("stagecast.celery")

PROJECT_HEADER = "stagecast_project"
"""The message header with the project's id, for a worker that must end a run without executing it."""


_has_warned_of_memory = False


@contextmanager
def stage_run(
    project_id: Id,
    stage_name: Id,
    *,
    request: Context | None = None,
    bus: str | MessageBus | None = None,
    timeout: float = 5.0,
    strict: bool = False,
) -> Iterator[RedisStreamPublisher]:
    """Execute one attempt at a run of a stage in the block; see the module for what is published when.

    `request` is the task's, by default the current task's; outside a task the block is a run of its own. `timeout` and
    `strict` are the publisher's. A plain task with `autoretry_for` needs `StageTask`: here its exception looks final.
    Raises RunCancelled or RunSuperseded where there is nothing to execute.
    """
    with executing(project_id, stage_name, request, bus, timeout, strict) as execution:
        yield execution.publisher


class StageTask(celery.Task[Any, Any]):
    """The base of tasks that stream a stage: `@app.task(base=StageTask, bind=True, stage="rewrite")`."""

    abstract = True
    stage: str | None = None
    """The stage that the task executes."""
    project_argument = "project_id"
    """The argument that names the project."""
    stream_timeout = 5.0
    """Seconds that the task's end waits at most for a bus that does not answer (`RedisStreamPublisher`)."""
    strict = False
    """Whether the publisher raises, for example RunCancelled at the next token after a cancel, which ends the task."""

    @property
    def publisher(self) -> RedisStreamPublisher:
        """The publisher of the execution in this thread. Threads that the task starts must be given it."""
        execution = current_execution()
        if execution is None:
            raise RuntimeError("there is a publisher only while the task executes, in the thread that executes it")
        return execution.publisher

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        topic, request, bus = self._topic(args, kwargs), self.request, self._bus()
        _check_reach(bus, request)
        execution: Execution | None = None
        try:
            with executing(topic.project, topic.one_stage, request, bus, self.stream_timeout, self.strict) as execution:
                answer = super().__call__(*args, **kwargs)
            if not request.called_directly:
                refuse_success(execution)
            return answer
        except (Ignore, Reject, Retry):
            raise
        except Exception as error:
            is_ours = isinstance(error, RunCancelled | RunSuperseded)
            is_superseded = isinstance(error, RunSuperseded) or (
                execution is not None and execution.publisher.superseded
            )
            if request.called_directly or not (is_ours or is_superseded):
                raise
            if is_superseded and runs.is_current(bus, topic, request.group or request.id or ""):
                logger.info("%s: a newer attempt of the task goes on: %r", topic, error)
            elif is_ours:
                what = "is not executed" if execution is None else "does not count"
                logger.info("%s: the task %s: %s", topic, what, error)
                stored = not (request.is_eager or self.ignore_result)
                self.backend.mark_as_revoked(request.id or "", str(error), request=request, store_result=stored)
            else:
                raise
            raise Ignore(str(error)) from error

    def apply_async(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, *more: Any, **options: Any
    ) -> Any:
        """Celery's, with `queued` published before and `error` where the message cannot be sent."""
        task_id = task_id or uuid()
        try:
            topic = self._topic(args or (), kwargs or {})
        except TypeError:  # the arguments do not fit: Celery's own check says so
            return super().apply_async(args, kwargs, task_id, *more, **options)
        options["headers"] = {**(options.get("headers") or {}), PROJECT_HEADER: topic.project}
        run = options.get("group_id") or task_id
        is_announced = not options.get("retries") and self._announce(topic, run, task_id)
        try:
            return super().apply_async(args, kwargs, task_id, *more, **options)
        except Exception as error:
            if is_announced:
                text = failures.told("The task could not be sent", error, topic)
                runs.end(self._bus(), topic, run, text, "exception", wait=runs.PATIENCE)
            raise

    def apply(self, *args: Any, **options: Any) -> Any:
        """Celery's; an eager request does not tell its group, so the members are told here."""
        inherited = eager_group.get() if options.get("retries") else None
        token = eager_group.set(options.get("group_id") or inherited)
        try:
            return super().apply(*args, **options)
        finally:
            eager_group.reset(token)

    def retry(
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: Exception | None = None,
        throw: bool = True,
        eta: Any = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Celery's, with `retrying` published before the retry is sent. A cancelled or overtaken run is not retried."""
        execution = current_execution()
        limit = self.max_retries if max_retries is None else max_retries
        if execution is not None and not self.request.called_directly:
            if execution.publisher.cancelled:
                raise RunCancelled(LAPSE_MESSAGES["cancelled"]) from exc
            if limit is None or self.request.retries < limit:
                announce_retry(execution, exc)
            if execution.publisher.superseded:  # a zombie's retry would repeat what a newer attempt does
                raise RunSuperseded(SUPERSEDED_MESSAGE) from exc
        return super().retry(args, kwargs, exc, throw, eta, countdown, max_retries, **options)

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Celery's. The parent of a pool calls it for a child that it has killed at the hard time limit."""
        if isinstance(exc, TimeLimitExceeded):
            runs.end(self._bus(), self._topic(args, kwargs), task_id, TIMEOUT_MESSAGE, "timeout")
        super().on_failure(exc, task_id, args, kwargs, einfo)

    def _topic(self, args: Any, kwargs: Any) -> Topic:
        if self.stage is None:
            raise NotConfigured(f"{self.name} names no stage: @app.task(base=StageTask, bind=True, stage=...)")
        arguments = signature(self.run).bind(*args, **kwargs)
        arguments.apply_defaults()
        found = {**arguments.arguments, **arguments.kwargs}
        if self.project_argument not in found:
            raise NotConfigured(f"{self.name} has no argument {self.project_argument!r}: set project_argument")
        return Topic.of(found[self.project_argument], self.stage)

    def _bus(self) -> MessageBus:
        return bus_of(self.app.conf.get("stagecast_bus"))

    def _announce(self, topic: Topic, run: str, task_id: str) -> bool:
        try:
            return runs.announce(self._bus(), topic, run, task_id)
        except NotConfigured as error:
            logger.warning("%s is not announced as queued: %s", self.name, error)
            return False


def _check_reach(bus: MessageBus, request: Context) -> None:
    """Refuse a bus that ends at a pool's process. Where the pool is threads, the server may be in this process too."""
    global _has_warned_of_memory
    if bus.capabilities.processes or request.called_directly or request.is_eager:
        return
    advice = "set STAGECAST_BUS or app.conf.stagecast_bus, for example to redis://localhost:6379/0"
    if current_process().name != "MainProcess":
        raise NotConfigured(f"nobody sees what is published on memory:// in a worker's child process: {advice}")
    if not _has_warned_of_memory:
        _has_warned_of_memory = True
        logger.warning("memory:// reaches only servers in this worker's own process; for others %s", advice)


@signals.task_revoked.connect(weak=False)
def _on_revoked(sender: Any = None, request: Any = None, expired: bool = False, **_: Any) -> None:
    """End the run of a task that was revoked. A group goes on without a member that was."""
    project = request.get(PROJECT_HEADER)
    if isinstance(sender, StageTask) and sender.stage and project and not request.group:
        topic = Topic(project, sender.stage)
        if expired:
            runs.end(sender._bus(), topic, request.id, LAPSE_MESSAGES["timeout"], "timeout")
        else:
            runs.cancel(sender._bus(), topic, request.id, LAPSE_MESSAGES["cancelled"])


@signals.worker_process_shutdown.connect(weak=False)
def _on_process_shutdown(**_: Any) -> None:
    """A pool's child ends without running exit hooks."""
    drain()
