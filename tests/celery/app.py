"""The Celery apps of the tests. A worker runs `app`, whose broker and bus the environment names."""

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from celery import Celery, chord, group

from stagecast import RedisStreamPublisher
from stagecast.domain.bus import MessageBus
from stagecast.entrypoints.celery import StageTask, stage_run


def make_app(broker: str, queue: str, bus: str | MessageBus | None) -> Celery:
    """An app with all tasks of the tests."""
    backend = broker if broker.startswith("redis") else "cache+memory://"
    app = Celery("tests.celery.app", broker=broker, backend=backend, set_as_current=False)
    app.conf.update(
        task_default_queue=queue,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        stagecast_bus=bus,
    )
    define_stages(app)
    define_images(app)
    define_mishaps(app)
    return app


def tasks_of(app: Celery) -> Any:
    """The app's tasks by their names."""
    return SimpleNamespace(**{name: task for name, task in app.tasks.items() if "." not in name})


def define_stages(app: Celery) -> None:
    """Tasks that stream a text."""

    @app.task(shared=False, base=StageTask, bind=True, name="rewrite", stage="rewrite")
    def rewrite(self: StageTask, project_id: str, words: list[str]) -> str:
        for word in words:
            self.publisher.publish_token(word)
        return self.publisher.text

    @app.task(shared=False, base=StageTask, bind=True, name="storyboard", stage="storyboard")
    def storyboard(self: StageTask, text: str, project_id: str) -> str:
        for character in text:
            self.publisher.publish_token(character)
        return self.publisher.text

    @app.task(shared=False, name="plain")
    def plain(project_id: str, fail: bool = False) -> None:
        """A task without our base, with two stages."""
        with stage_run(project_id, "first", bus=app.conf.get("stagecast_bus")) as publisher:
            publisher.publish_token("first")
        with stage_run(project_id, "second", bus=app.conf.get("stagecast_bus")) as publisher:
            if fail:
                raise ValueError("second")
            publisher.publish_token("second")

    @app.task(shared=False, base=StageTask, bind=True, name="by_itself", stage="rewrite")
    def by_itself(self: StageTask, project_id: str) -> None:
        """Publishes its end itself."""
        self.publisher.publish_token("text")
        self.publisher.publish_done(full_text="text", metadata={"tokens_used": 1})
        self.publisher.publish_stage_completed({"tokens_used": 1})


def define_images(app: Celery) -> None:
    """A chord: all images in parallel, then the end of their stage."""

    @app.task(
        shared=False, base=StageTask, bind=True, name="image", stage="image_generation", project_argument="project"
    )
    def image(self: StageTask, project: str, number: int, total: int) -> int:
        self.publisher.publish_progress(number, total, f"image {number}")
        self.publisher.publish_item_completed("image", number)
        return number

    @app.task(shared=False, name="finish")
    def finish(numbers: list[int], project: str) -> None:
        with RedisStreamPublisher(project, "image_generation", bus=app.conf.get("stagecast_bus")) as publisher:
            publisher.publish_done(metadata={"images": list[Any](sorted(numbers))})


def kwargs_only(app: Celery) -> Any:
    """A task that takes its project among any keywords."""

    @app.task(shared=False, base=StageTask, bind=True, name="any_keywords", stage="rewrite")
    def any_keywords(self: StageTask, /, **anything: Any) -> None:
        self.publisher.publish_token("text")

    return any_keywords


def images(app: Celery, project: str, total: int) -> Any:
    """The chord's signature."""
    tasks = tasks_of(app)
    return chord(group(tasks.image.s(project, n, total) for n in range(total)), tasks.finish.s(project), app=app)


def define_mishaps(app: Celery) -> None:
    """Tasks that fail, wait, or are held while the test does something to them."""

    @app.task(shared=False, base=StageTask, bind=True, name="flaky", stage="rewrite", max_retries=2)
    def flaky(self: StageTask, project_id: str, words: list[str], failures: int) -> str:
        """Fails `failures` times with half of the text, by an explicit retry."""
        for number, word in enumerate(words):
            if self.request.retries < failures and number == len(words) // 2:
                raise self.retry(exc=ConnectionError("rate limit"), countdown=0)
            self.publisher.publish_token(f"{word}{self.request.retries} ")
        return self.publisher.text

    @app.task(
        shared=False,
        base=StageTask,
        bind=True,
        name="hopeless",
        stage="rewrite",
        autoretry_for=(ConnectionError,),
        max_retries=1,
        retry_kwargs={"countdown": 0},
    )
    def hopeless(self: StageTask, project_id: str) -> None:
        """Fails always, and is retried once."""
        self.publisher.publish_token("half")
        raise ConnectionError("no answer")

    @app.task(shared=False, base=StageTask, bind=True, name="held", stage="rewrite")
    def held(self: StageTask, project_id: str, words: list[str], path: str) -> str:
        return hold(self, words, path)

    @app.task(
        shared=False,
        base=StageTask,
        bind=True,
        name="held_again",
        stage="rewrite",
        acks_late=True,
        reject_on_worker_lost=True,
    )
    def held_again(self: StageTask, project_id: str, words: list[str], path: str) -> str:
        """Delivered again where its process dies."""
        return hold(self, words, path)

    @app.task(shared=False, base=StageTask, bind=True, name="until_cancelled", stage="rewrite")
    def until_cancelled(self: StageTask, project_id: str) -> None:
        """Streams until the run is cancelled, as a polite task does."""
        self.publisher.publish_token("and so on")
        while not self.publisher.cancelled:
            time.sleep(0.005)

    @app.task(shared=False, base=StageTask, bind=True, name="old_style", stage="rewrite", max_retries=1)
    def old_style(self: StageTask, project_id: str) -> None:
        """Publishes its error itself before it is retried, as users of the seed do."""
        try:
            self.publisher.publish_token("text")
            if self.request.retries == 0:
                raise ConnectionError("no answer")
        except ConnectionError as error:
            self.publisher.publish_error(str(error), retry_count=self.request.retries)
            raise self.retry(exc=error, countdown=0) from error


def hold(task: StageTask, words: list[str], path: str) -> str:
    """Stream half of the words, tell the process, wait for the file, stream the rest."""
    publisher = task.publisher
    half = len(words) // 2
    for word in words[:half]:
        publisher.publish_token(word)
    publisher.publish_item_completed("process", publisher.attempt, {"pid": os.getpid()})
    while not Path(path).exists():
        time.sleep(0.005)
    for word in words[half:]:
        publisher.publish_token(word)
    return publisher.text


if "TEST_BROKER" in os.environ:
    app = make_app(os.environ["TEST_BROKER"], os.environ["TEST_QUEUE"], os.environ.get("TEST_BUS"))
