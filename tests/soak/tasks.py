"""The Celery app of the soak's worker: one task that streams, with a journal, and is delivered again if it dies."""

import os
import random
from pathlib import Path
from typing import Any
from uuid import uuid4

from celery import Celery

from stagecast.entrypoints.celery import StageTask

from .generator import Recipe, publish
from .journal import Journal

app = Celery("tests.soak.tasks", broker=os.environ.get("SOAK_BROKER"), set_as_current=False)
app.conf.update(worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True, task_ignore_result=True)


@app.task(
    shared=False,
    base=StageTask,
    bind=True,
    name="stream",
    stage="rewrite",
    acks_late=True,
    reject_on_worker_lost=True,
)
def stream(self: StageTask, project_id: str, name: str, folder: str, recipe: dict[str, Any]) -> None:
    """One attempt: its text is another one than the attempt's before."""
    key = f"{name}-{uuid4().hex[:6]}"
    journal = Journal(Path(folder) / f"task-{key}.journal")
    try:
        publish(self.publisher, journal, key, Recipe(**recipe), random.Random(key))
        journal.write(key, over=True)
    finally:
        journal.close()
