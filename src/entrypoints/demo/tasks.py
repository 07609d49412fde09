"""The demo's Celery app: each stage is a task, and the job is their chain. The bus and the broker are one Redis.

python -m celery -A stagecast.entrypoints.demo.tasks worker
"""

import os
from pathlib import Path
from typing import Any

from celery import Celery, chain, signals

from stagecast.domain.bus import MessageBus
from stagecast.domain.errors import NotConfigured
from stagecast.entrypoints import configuration
from stagecast.entrypoints.background import bus_of
from stagecast.entrypoints.celery import StageTask

from . import config, pipeline
from .pipeline import Job

QUEUE = "stagecast-demo"
"""A queue of the demo's own: on a shared Redis no other worker takes its tasks."""


def _broker() -> str | None:
    try:
        return configuration.bus_url()
    except NotConfigured:
        return None


app = Celery("stagecast-demo", broker=_broker())
app.conf.update(
    task_default_queue=QUEUE,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"global_keyprefix": f"{QUEUE}:", "socket_connect_timeout": 5.0},
)


def start(job: Job) -> None:
    """Announce the job's runs and send its tasks; a task's id is its stage's run. Raises BusUnavailable."""
    pipeline.announce(job, _bus())
    fields = {"project_id": job.project, "job": job.as_message()}
    stages = (
        task.s(**fields).set(task_id=job.runs[stage])
        for stage, task in zip(pipeline.STAGES, (rewrite, storyboard, image_generation), strict=True)
    )
    chain(*stages, finish.s(job=fields["job"])).apply_async(link_error=failed.s(fields["job"]))


@app.task(base=StageTask, bind=True, stage=pipeline.STAGES[0])
def rewrite(self: StageTask, project_id: str, job: dict[str, Any]) -> str:
    pipeline.begin(Job(**job), _bus())
    return pipeline.rewrite(self.publisher, Job(**job), config.writer())


@app.task(base=StageTask, bind=True, stage=pipeline.STAGES[1])
def storyboard(self: StageTask, narration: str, project_id: str, job: dict[str, Any]) -> str:
    pipeline.advance(Job(**job), _bus(), pipeline.STAGES[1])
    return pipeline.storyboard(self.publisher, Job(**job), config.writer(), narration)


@app.task(base=StageTask, bind=True, stage=pipeline.STAGES[2])
def image_generation(self: StageTask, board: str, project_id: str, job: dict[str, Any]) -> int:
    pipeline.advance(Job(**job), _bus(), pipeline.STAGES[2])
    return pipeline.image_generation(self.publisher, Job(**job), board, config.picture_pause())


@app.task
def finish(pictures: int, job: dict[str, Any]) -> None:
    pipeline.finish(Job(**job), _bus(), pictures)


@app.task
def failed(request: Any, error: BaseException, trace: Any, job: dict[str, Any]) -> None:
    """Called by Celery where a stage's task has failed."""
    task = app.tasks[request.task]
    if isinstance(task, StageTask) and task.stage is not None:
        pipeline.fail(Job(**job), _bus(), task.stage, error)


def _bus() -> MessageBus:
    return bus_of(None)


@signals.worker_ready.connect(weak=False)
def _on_ready(**_: Any) -> None:
    if name := os.environ.get(config.READY_VARIABLE):
        Path(name).touch()
