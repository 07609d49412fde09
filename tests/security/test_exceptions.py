"""What viewers are told of an exception that nobody has put into words for them."""

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.exceptions import Reject
from kombu.exceptions import OperationalError

from stagecast import RedisStreamSubscriber
from stagecast.adapters.codec import JsonCodec
from stagecast.adapters.memory import MemoryBus
from stagecast.entrypoints.celery import StageTask, stage_run
from tests.celery.app import make_app
from tests.reading import Message

SECRET = "redis://:hunter2@10.1.2.3:6379/0"
REASON = f"cannot reach {SECRET}; see /srv/app/secrets.env\nTraceback (most recent call last):\n  File 'x.py'"
LEAKS = "hunter2", "10.1.2.3", "/srv", "Traceback", "inner-secret"
STAGE = "rewrite"


class Unspeakable(ConnectionError):
    """Its own code fails when it is asked for its text."""

    def __str__(self) -> str:
        raise RuntimeError(SECRET)

    __repr__ = __str__


def failure(kind: type[Exception] = ConnectionError) -> Exception:
    """An exception whose text, and whose cause's, is not for viewers."""
    error = kind(REASON)
    error.__cause__ = OSError(2, "inner-secret", "/srv/inner-secret")
    return error


def failing(app: Celery, project: str) -> None:
    """A task that fails."""

    @app.task(shared=False, base=StageTask, bind=True, name="failing", stage=STAGE)
    def failing(self: StageTask, project_id: str) -> None:
        raise failure()

    failing.apply((project,))


def retried(app: Celery, project: str) -> None:
    """A task that is retried, once by `retry` and for good by its exception."""

    @app.task(shared=False, base=StageTask, bind=True, name="retried", stage=STAGE, max_retries=1)
    def retried(self: StageTask, project_id: str) -> None:
        raise self.retry(exc=failure(), countdown=0)

    retried.apply((project,))


def retried_by_itself(app: Celery, project: str) -> None:
    """A task that Celery retries."""
    options: dict[str, Any] = {"autoretry_for": (ConnectionError,), "max_retries": 1, "retry_kwargs": {"countdown": 0}}

    @app.task(shared=False, base=StageTask, bind=True, name="retried_by_itself", stage=STAGE, **options)
    def retried_by_itself(self: StageTask, project_id: str) -> None:
        raise failure()

    retried_by_itself.apply((project,))


def in_a_block(app: Celery, project: str) -> None:
    """A block of `stage_run`, outside any task."""
    with pytest.raises(ConnectionError), stage_run(project, STAGE, bus=app.conf["stagecast_bus"]):
        raise failure()


def rejected(app: Celery, project: str) -> None:
    """A task that rejects its message, and says why."""

    @app.task(shared=False, base=StageTask, bind=True, name="rejected", stage=STAGE)
    def rejected(self: StageTask, project_id: str) -> None:
        raise Reject(REASON, requeue=False)

    with suppress(Reject):
        rejected.apply((project,))


def unspeakable(app: Celery, project: str) -> None:
    """A block whose exception has no text."""
    with pytest.raises(Unspeakable), stage_run(project, STAGE, bus=app.conf["stagecast_bus"]):
        raise failure(Unspeakable)


def unsent(app: Celery, project: str) -> None:
    """A task whose message the broker does not take: the reason names the broker."""

    def refuse(*args: Any, **options: Any) -> Any:
        raise OperationalError(REASON)

    app.send_task = refuse  # type: ignore[method-assign]

    @app.task(shared=False, base=StageTask, bind=True, name="unsent", stage=STAGE)
    def unsent(self: StageTask, project_id: str) -> None: ...

    with pytest.raises(OperationalError):
        unsent.delay(project)


Fails = Callable[[Celery, str], None]
FAILURES: list[Fails] = [failing, retried, retried_by_itself, in_a_block, rejected, unspeakable, unsent]


@pytest.fixture
def project() -> str:
    return uuid4().hex


@pytest.fixture
def app() -> Celery:
    """A Celery app whose bus is memory."""
    return make_app("memory://", "celery", MemoryBus(JsonCodec()))


def told_by(fails: Fails, app: Celery, project: str) -> list[Message]:
    """What viewers of the stage are told of the failure: errors, and announcements of retries."""
    with RedisStreamSubscriber(project, STAGE, bus=app.conf["stagecast_bus"]) as subscriber:
        fails(app, project)
        messages = list(subscriber.listen(5))
    assert messages[-1]["type"] == "error"
    return [one for one in messages if one["type"] == "error" or one.get("status") == "retrying"]


def words(told: Message) -> str:
    return str(told["error" if told["type"] == "error" else "message"])


@pytest.mark.parametrize("fails", FAILURES)
def test_an_exceptions_text_stays_in_the_log(
    fails: Fails, app: Celery, project: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By default viewers get a sentence and an id, on each way out; the log has the exception with that id."""
    found = told_by(fails, app, project)
    assert len(found) == (2 if fails in {retried, retried_by_itself} else 1)
    for one in found:
        assert not [leak for leak in (*LEAKS, "Error") if leak in str(one)]
        sentence = re.fullmatch(r"The task [a-z ]+ \(error ([0-9a-f]{8})\)\.", words(one))
        assert sentence
        records = [record for record in caplog.records if sentence[1] in record.getMessage()]
        assert [record.name for record in records] == ["stagecast.celery"]
        assert records[0].levelno == (logging.ERROR if one["type"] == "error" else logging.WARNING)
        assert records[0].exc_info
        assert project in records[0].getMessage()
        assert fails is unspeakable or "hunter2" in str(records[0].exc_info[1])


@pytest.mark.parametrize("fails", FAILURES)
def test_who_wants_the_type_gets_no_more(
    fails: Fails, app: Celery, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`type` tells the exception's class beside the id, and nothing of its text."""
    monkeypatch.setenv("STAGECAST_CELERY_ERROR_TEXT", "type")
    for one in told_by(fails, app, project):
        assert not [leak for leak in LEAKS if leak in str(one)]
        assert re.fullmatch(r"The task [a-z ]+: [A-Z]\w+ \(error [0-9a-f]{8}\)\.", words(one))


@pytest.mark.parametrize("fails", FAILURES)
def test_who_wants_the_text_gets_it(fails: Fails, app: Celery, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`full` is the seed's way: the exception's text; its type where it has none that can be read."""
    monkeypatch.setenv("STAGECAST_CELERY_ERROR_TEXT", "full")
    for one in told_by(fails, app, project):
        expected = "Unspeakable" if fails is unspeakable else str(Reject(REASON)) if fails is rejected else REASON
        assert words(one) == expected


@pytest.mark.parametrize(
    ("variable", "value"), [("STAGECAST_CELERY_ERROR_TEXT", "Full"), ("STAGECAST_LIMITS_LOG_LENGTH", "many")]
)
def test_a_broken_configuration_opens_nothing(
    variable: str, value: str, app: Celery, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that cannot be used, this or another, neither shows the text nor keeps the end from being told."""
    monkeypatch.setenv(variable, value)
    (one,) = told_by(failing, app, project)
    assert re.fullmatch(r"The task failed \(error [0-9a-f]{8}\)\.", words(one))


def test_what_publish_error_is_given_is_shown(app: Celery, project: str) -> None:
    """A task's own words are meant for viewers; the exception behind them adds nothing."""

    def explains(app: Celery, project: str) -> None:
        with suppress(ConnectionError), stage_run(project, STAGE, bus=app.conf["stagecast_bus"]) as publisher:
            publisher.publish_error("The model is busy: API调用失败")
            raise failure()

    assert [words(one) for one in told_by(explains, app, project)] == ["The model is busy: API调用失败"]
