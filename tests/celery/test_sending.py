"""What sending and declaring a task answers when something is missing: the broker, the bus, a name."""

import logging
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from stagecast import RedisStreamSubscriber
from stagecast.domain.errors import InvalidTopic, NotConfigured
from stagecast.entrypoints import runs
from stagecast.entrypoints.background import background
from stagecast.entrypoints.celery import StageTask
from tests.celery.app import kwargs_only, make_app, tasks_of
from tests.celery.conftest import Eager
from tests.reading import told
from tests.servers import free_port

STAGE = "rewrite"


def test_message_that_cannot_be_sent_is_an_error(eager: Eager, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the broker does not take the message, `queued` is followed by `error`, and the caller learns it too."""
    eager.app.conf.task_always_eager = False

    def refuse(*args: Any, **options: Any) -> Any:
        raise OperationalError("no broker")

    monkeypatch.setattr(eager.app, "send_task", refuse)
    with RedisStreamSubscriber(project, STAGE, bus=eager.bus) as subscriber:
        with pytest.raises(OperationalError):
            eager.tasks.rewrite.delay(project, ["a"])
        messages = list(subscriber.listen(5))
    assert told(messages) == ["queued", "error"]
    assert str(messages[-1]["error"]).startswith("The task could not be sent (error ")


def test_dead_bus_changes_no_result(
    project: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """R151: With the bus away for the whole task it is sent, executed and succeeds; the outage is logged once."""
    monkeypatch.setattr(runs, "PATIENCE", 0.2)
    app = make_app("memory://", "celery", f"redis://127.0.0.1:{free_port()}/0")
    app.conf.task_always_eager = True
    task = tasks_of(app).rewrite
    monkeypatch.setattr(type(task), "stream_timeout", 0.2)
    words = [f"{number} " for number in range(100)]
    with caplog.at_level(logging.WARNING, "stagecast"):
        assert task.delay(project, words).get() == "".join(words)
    ours = [record.message for record in caplog.records if project in record.message]
    assert len(ours) == 1
    for delivery in list(background()._deliveries.values()):
        if delivery.publisher.topic.project == project:
            delivery.done.cancel()


def test_missing_bus_is_told_before_anything_is_paid_for(project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a configured bus the task does not begin; sending it only warns, for the sender may need no bus."""
    for name in ("STAGECAST_BUS", "REDIS_URL", "REDIS_PUBSUB_URL", "CELERY_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)
    app = make_app("memory://", "celery", None)
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    with pytest.raises(NotConfigured, match="STAGECAST_BUS"):
        tasks_of(app).rewrite.delay(project, ["a"])


def test_bad_declarations_and_ids_are_told_at_once(eager: Eager) -> None:
    """A task without a stage or a project argument, or an invalid project, fails where it is sent."""

    @eager.app.task(shared=False, base=StageTask, bind=True, name="stageless")
    def stageless(self: Any, project_id: str) -> None: ...

    @eager.app.task(shared=False, base=StageTask, bind=True, name="projectless", stage=STAGE)
    def projectless(self: Any, other: str) -> None: ...

    with pytest.raises(NotConfigured, match="stage="):
        stageless.delay("p")
    with pytest.raises(NotConfigured, match="project_argument"):
        projectless.delay("p")
    assert kwargs_only(eager.app).delay(project_id="p").state == "SUCCESS"
    with pytest.raises(InvalidTopic):
        eager.tasks.rewrite.delay("a b", ["x"])
    with pytest.raises(TypeError):
        eager.tasks.rewrite.delay("p")
    with pytest.raises(RuntimeError, match="while the task executes"):
        _ = eager.tasks.rewrite.publisher
