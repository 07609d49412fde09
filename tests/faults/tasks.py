"""Celery tasks to be broken in mid-token. A worker runs `app`; each text tells by which attempt it was written."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from celery import Celery

from stagecast.domain.bus import MessageBus
from stagecast.entrypoints.celery import StageTask

HALF = 20
PAUSE = 0.01
"""Seconds between two tokens that flow while a task waits for its fault."""
LOST_WAIT = 0.1
"""Seconds that a worker waits for the result of a process that has died; Celery's default is 10."""


def words(attempt: int, count: int) -> str:
    """The text of an attempt's first `count` tokens."""
    return "".join(f"{attempt}:{number}字😀 " for number in range(count))


def make_app(broker: str, queue: str, bus: str | MessageBus) -> Celery:
    """An app with all tasks to be broken."""
    app = Celery("tests.faults.tasks", broker=broker, backend=broker, set_as_current=False)
    app.conf.update(
        task_default_queue=queue,
        worker_prefetch_multiplier=1,
        worker_lost_wait=LOST_WAIT,
        broker_connection_retry_on_startup=True,
        stagecast_bus=bus,
    )
    define(app)
    return app


def define(app: Celery) -> None:
    """Tasks that stream half of a text, then go on as `folder` says (`stream`)."""

    @app.task(shared=False, base=StageTask, bind=True, name="once", stage="rewrite")
    def once(self: StageTask, project_id: str, folder: str) -> str:
        return stream(self, Path(folder))

    @app.task(
        shared=False,
        base=StageTask,
        bind=True,
        name="again",
        stage="rewrite",
        acks_late=True,
        reject_on_worker_lost=True,
    )
    def again(self: StageTask, project_id: str, folder: str) -> str:
        """Delivered again where its process dies."""
        return stream(self, Path(folder))

    @app.task(
        shared=False,
        base=StageTask,
        bind=True,
        name="stubborn",
        stage="rewrite",
        autoretry_for=(ConnectionError,),
        max_retries=2,
        retry_backoff=1,
        retry_jitter=False,
    )
    def stubborn(self: StageTask, project_id: str, folder: str) -> str:
        """Fails in the middle of its first attempts, and is retried after a while."""
        return stream(self, Path(folder))

    @app.task(shared=False, base=StageTask, bind=True, name="strict", stage="rewrite", strict=True)
    def strict(self: StageTask, project_id: str, folder: str) -> str:
        """Knows nothing of cancelling: its publisher raises."""
        return stream(self, Path(folder))

    @app.task(shared=False, base=StageTask, bind=True, name="polite", stage="rewrite")
    def polite(self: StageTask, project_id: str, folder: str) -> str:
        """Says nothing, and looks now and then whether it was cancelled."""
        self.publisher.publish_token(words(1, HALF))
        self.publisher.publish_item_completed("process", 1, {"pid": os.getpid()})
        while not self.publisher.cancelled:
            time.sleep(0.01)
        return self.publisher.text

    @app.task(shared=False, base=StageTask, bind=True, name="timed", stage="rewrite", stream_timeout=1)
    def timed(self: StageTask, project_id: str, folder: str) -> list[bool]:
        """What its publisher answers after the gate; its text is `words` of `HALF + 1` tokens."""
        publisher = self.publisher
        publisher.publish_token(words(1, HALF))
        publisher.publish_item_completed("process", 1, {"pid": os.getpid()})
        while not Path(folder, "go").exists():
            time.sleep(PAUSE)
        return [
            publisher.publish_token(words(1, HALF + 1)[len(words(1, HALF)) :]),
            publisher.publish_progress(1, 1),
            publisher.flush(1),
            publisher.publish_done(),
        ]

    @app.task(shared=False, name="follow_up")
    def follow_up(text: str, folder: str) -> None:
        """What comes after a success."""
        Path(folder, "follow_up").touch()


def stream(task: StageTask, folder: Path) -> str:
    """Half of a text, the process's id, tokens until the folder has `go` or `go-<attempt>`, and the other half.

    The file holds a fault (`FAULTS`) to have in the place of the other half, or nothing. No token flows meanwhile where
    the folder has `silent`. That the publisher was told of a cancel changes nothing: the test finds `cancelled`.
    """
    publisher = task.publisher
    attempt, number = publisher.attempt, 0

    def token() -> None:
        nonlocal number
        publisher.publish_token(f"{attempt}:{number}字😀 ")
        number += 1

    (folder / f"began-{attempt}").touch()
    for _ in range(HALF):
        token()
    publisher.publish_item_completed("process", attempt, {"pid": os.getpid()})
    gates = [folder / "go", folder / f"go-{attempt}"]
    while not (found := [gate for gate in gates if gate.exists()]):
        time.sleep(PAUSE)
        if not (folder / "silent").exists():
            token()
        if publisher.cancelled:
            (folder / "cancelled").touch()
    fault = found[-1].read_text()
    if fault:
        FAULTS[fault]()
    for _ in range(HALF):
        token()
    return publisher.text


def _fail() -> None:
    raise ConnectionError("rate limit")


FAULTS: dict[str, Callable[[], None]] = {
    "exit": lambda: os._exit(137),
    "fail": _fail,
}

if "TEST_BROKER" in os.environ:
    app = make_app(os.environ["TEST_BROKER"], os.environ["TEST_QUEUE"], os.environ["STAGECAST_BUS"])
