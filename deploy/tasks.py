"""A task that streams, for the worker of compose.yaml; put yours in its place."""

import time

from celery import Celery

from stagecast.entrypoints.celery import StageTask
from stagecast.entrypoints.configuration import bus_url

app = Celery("tasks", broker=bus_url())
app.conf.update(task_default_queue="llm", broker_connection_retry_on_startup=True)


@app.task(base=StageTask, bind=True, stage="rewrite")
def rewrite(self: StageTask, project_id: str, text: str) -> None:
    """Say `text` word by word."""
    for word in text.split():
        self.publisher.publish_token(f"{word} ")
        time.sleep(0.1)
