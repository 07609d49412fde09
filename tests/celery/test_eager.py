"""Tasks that are executed where they are called: what a user's unit tests see, on the memory bus."""

import re
from contextlib import suppress
from typing import Any

import pytest
from celery import group
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from stagecast import RedisStreamPublisher, RedisStreamSubscriber
from stagecast.domain.errors import RunCancelled
from stagecast.domain.topics import Topic
from stagecast.entrypoints import runs
from stagecast.entrypoints.background import background
from stagecast.entrypoints.celery import StageTask
from tests.celery.app import images
from tests.celery.conftest import Eager
from tests.reading import rebuilt, told
from tests.waiting import wait_until

STAGE = "rewrite"


def follow(eager: Eager, project: str, stage: str | None = STAGE) -> RedisStreamSubscriber:
    """A subscriber on the eager app's bus."""
    return RedisStreamSubscriber(project, stage, bus=eager.bus)


def test_life_of_a_task(eager: Eager, project: str) -> None:
    """A task that was sent is queued, processing, streams, and is done with the published text."""
    with follow(eager, project) as subscriber:
        result = eager.tasks.rewrite.delay(project, ["你好", "😀", " world"])
        messages = list(subscriber.listen(5))
    assert told(messages) == ["queued", "processing", "token", "done"]
    assert messages[1]["progress"] == 0
    assert rebuilt(messages) == messages[-1]["full_text"] == result.get() == "你好😀 world"


@pytest.mark.parametrize("call", ["apply", "direct"])
def test_task_that_was_not_sent_streams_too(eager: Eager, project: str, call: str) -> None:
    """`apply` and a plain call stream as well, without having been queued."""
    with follow(eager, project) as subscriber:
        if call == "apply":
            eager.tasks.rewrite.apply((project,), {"words": ["a"]})
        else:
            eager.tasks.rewrite(project, ["a"])
        assert told(subscriber.listen(5)) == ["processing", "token", "done"]


def test_task_that_publishes_its_end_itself(eager: Eager, project: str) -> None:
    """Where the task has published `done`, the base adds none; what it publishes after that is still delivered."""
    with follow(eager, project) as subscriber:
        eager.tasks.by_itself.delay(project)
        messages = list(subscriber.listen(5))
        late = subscriber.get_message(5)
        assert subscriber.get_message(0.1) is None
    assert told(messages) == ["queued", "processing", "token", "done"]
    assert messages[-1]["metadata"] == {"tokens_used": 1}
    assert late is not None
    assert late["type"] == "stage_completed"


def test_explicit_retry(eager: Eager, project: str) -> None:
    """R56: `retrying` is published before each retry, and the last attempt's tokens are the result."""
    with follow(eager, project) as subscriber:
        result = eager.tasks.flaky.delay(project, ["a", "b", "c", "d"], failures=2)
        messages = list(subscriber.listen(5))
    once = ["processing", "token", "retrying", "reset"]
    assert told(messages) == ["queued", *once, *once, "processing", "token", "done"]
    retries = [message for message in messages if message.get("status") == "retrying"]
    assert [one["retry_count"] for one in retries] == [1, 2]
    assert all(re.fullmatch(r"The task is tried again \(error [0-9a-f]{8}\)\.", str(one["message"])) for one in retries)
    assert [message["attempt"] for message in messages if message["type"] == "reset"] == [2, 3]
    assert rebuilt(messages) == result.get() == "a2 b2 c2 d2 "


def test_only_the_last_failure_is_an_error(eager: Eager, project: str) -> None:
    """With `autoretry_for` a failure is `retrying` while retries are left, then one `error` with the retry count."""
    with follow(eager, project) as subscriber:
        assert eager.tasks.hopeless.delay(project).state == "FAILURE"
        messages = list(subscriber.listen(5))
    attempt = ["processing", "token"]
    assert told(messages) == ["queued", *attempt, "retrying", "reset", *attempt, "error"]
    assert re.fullmatch(r"The task failed \(error [0-9a-f]{8}\)\.", str(messages[-1]["error"]))
    assert messages[-1]["retry_count"] == 1
    assert "reason" not in messages[-1]


def test_task_that_publishes_an_error_and_is_retried(eager: Eager, project: str) -> None:
    """The seed's users publish an error and retry: the retry reopens the run, and ends it well."""
    with follow(eager, project) as subscriber:
        assert eager.tasks.old_style.delay(project).state == "SUCCESS"
        assert told(subscriber.listen(5)) == ["queued", "processing", "token", "error"]
        messages = list(subscriber.listen(5))
    assert told(messages) == ["reset", "processing", "token", "done"]
    assert rebuilt(messages) == "text"


@pytest.mark.parametrize(
    ("error", "reason"),
    [(SoftTimeLimitExceeded(), "timeout"), (RunCancelled(), "cancelled"), (KeyError("x"), None)],
)
def test_reason_of_an_error(eager: Eager, project: str, error: Exception, reason: str | None) -> None:
    """What ended the task tells the reason: a soft time limit, a cancellation, or an exception."""

    @eager.app.task(shared=False, base=StageTask, bind=True, name="fails", stage=STAGE)
    def fails(self: Any, project_id: str) -> None:
        raise error

    with follow(eager, project) as subscriber:
        fails.delay(project)
        messages = list(subscriber.listen(5))
    assert told(messages) == ["queued", "processing", "error"]
    assert messages[-1].get("reason") == reason


@pytest.mark.parametrize(
    ("leaving", "ends"), [(Ignore(), False), (Reject("no", requeue=True), False), (Reject("no", requeue=False), True)]
)
def test_task_that_leaves_otherwise(eager: Eager, project: str, leaving: Exception, ends: bool) -> None:
    """A task that is ignored or rejected for redelivery only gives its lease back; one that is dropped has failed."""

    @eager.app.task(shared=False, base=StageTask, bind=True, name="leaves", stage=STAGE)
    def leaves(self: Any, project_id: str) -> None:
        raise leaving

    with follow(eager, project) as subscriber:
        with suppress(Reject):
            leaves.delay(project)
        assert told(subscriber.listen(0.3)) == ["queued", "processing", *(["error"] if ends else [])]
    assert eager.bus.liveness(Topic(project)).active == frozenset()


def test_members_of_a_group_share_a_run(eager: Eager, project: str) -> None:
    """The images of a chord belong to one run; none of them ends it, the chord's body does."""
    with follow(eager, project, "image_generation") as subscriber:
        images(eager.app, project, 4).apply_async()
        messages = list(subscriber.listen(5))
    words = told(messages)
    assert words.count("done") == 1
    assert words[-1] == "done"
    assert "reset" not in words
    assert words.count("item_completed") == 4
    assert not [message for message in messages if message["type"] == "stage_update" and "progress" in message]
    assert messages[-1]["metadata"] == {"images": [0, 1, 2, 3]}


def test_failed_member_of_a_group_ends_the_run(eager: Eager, project: str) -> None:
    """A member that fails for good is the group's error: no chord's body will come."""
    with follow(eager, project) as subscriber:
        group(eager.tasks.hopeless.s(project), app=eager.app).apply()
        assert told(subscriber.listen(5))[-1] == "error"


def test_plain_task_with_two_stages(eager: Eager, project: str) -> None:
    """`stage_run` serves tasks without the base class; its block is a run, its exception the run's error."""
    with follow(eager, project) as first, follow(eager, project, "second") as second:
        del first
        with follow(eager, project, "first") as other:
            eager.tasks.plain.delay(project)
            assert told(other.listen(5)) == ["processing", "token", "done"]
        assert told(second.listen(5)) == ["processing", "token", "done"]
        eager.tasks.plain.delay(project, fail=True)
        messages = list(second.listen(5))
    assert told(messages) == ["reset", "processing", "error"]
    assert str(messages[-1]["error"]).startswith("The task failed (error ")


def test_cancelled_run_is_not_executed(eager: Eager, project: str) -> None:
    """A task whose run was cancelled while it waited is not executed, and is revoked for Celery."""
    executed: list[str] = []

    @eager.app.task(shared=False, base=StageTask, bind=True, name="costly", stage=STAGE)
    def costly(self: Any, project_id: str) -> None:
        executed.append(project_id)

    topic = Topic(project, STAGE)
    with follow(eager, project) as subscriber:
        assert runs.announce(eager.bus, topic, "task-1", "task-1")
        assert background().call(eager.bus.cancel(topic, "task-1"), 5)
        result = costly.apply((project,), task_id="task-1")
        messages = list(subscriber.listen(5))
    assert (executed, result.state) == ([], "IGNORED")
    assert told(messages) == ["queued", "error"]
    assert messages[-1]["reason"] == "cancelled"


def test_superseded_run_is_not_executed(eager: Eager, project: str) -> None:
    """A task that comes after a newer run of its stage has begun is not executed and disturbs nothing."""
    topic = Topic(project, STAGE)
    assert runs.announce(eager.bus, topic, "old", "old")
    with follow(eager, project) as subscriber:
        eager.tasks.rewrite.apply((project, ["new"]), task_id="new")
        assert eager.tasks.rewrite.apply((project, ["old"]), task_id="old").state == "IGNORED"
        messages = list(subscriber.listen(5))
        assert subscriber.get_message(0.1) is None
    assert rebuilt(messages) == "new"


def test_cancelled_task_that_returns_is_cancelled(eager: Eager, project: str) -> None:
    """A task that sees the cancellation and returns has not succeeded; its retry would not be executed either."""

    @eager.app.task(shared=False, base=StageTask, bind=True, name="polite", stage=STAGE)
    def polite(self: Any, project_id: str, retries: bool) -> None:
        publisher = self.publisher
        publisher.publish_token("half")
        publisher.flush()
        assert background().call(eager.bus.cancel(Topic(project, STAGE), publisher.run_id), 5)
        wait_until(lambda: publisher.cancelled)
        if retries:
            raise self.retry(exc=ValueError("no"), countdown=0)

    for retries in (False, True):
        with follow(eager, project) as subscriber:
            polite.delay(project, retries)
            messages = [message for message in subscriber.listen(5) if message["type"] in {"error", "done"}]
            messages += [message for message in subscriber.listen(0.2) if message["type"] in {"error", "done"}]
        assert messages[-1]["type"] == "error"
        assert messages[-1]["reason"] == "cancelled"


@pytest.mark.parametrize(
    ("overtaken_by", "ending", "state"),
    [
        ("attempt", "return", "IGNORED"),
        ("attempt", "raise", "IGNORED"),
        ("attempt", "retry", "IGNORED"),
        ("run", "return", "IGNORED"),
        ("run", "raise", "FAILURE"),
        ("run", "done before", "SUCCESS"),
    ],
)
def test_overtaken_task(eager: Eager, project: str, overtaken_by: str, ending: str, state: str) -> None:
    """A task that counts no more is no success, and one with a newer attempt no failure either; a done one is done."""

    @eager.app.task(shared=False, base=StageTask, bind=True, name="overtaken", stage=STAGE, max_retries=1)
    def overtaken(self: Any, project_id: str) -> None:
        publisher = self.publisher
        publisher.publish_token("old")
        if ending == "done before":
            publisher.publish_done(full_text="old")
        newer = self.request.id if overtaken_by == "attempt" else "newer"
        eager.tasks.rewrite.apply((project_id, ["new"]), task_id=newer)
        publisher.publish_progress(1, 2)
        publisher.flush()
        assert publisher.superseded
        if ending == "raise":
            raise ValueError
        if ending == "retry":
            self.retry(countdown=0)

    with follow(eager, project) as subscriber:
        assert overtaken.delay(project).state == state
        messages = list(subscriber.listen(5))
        if ending == "done before":
            messages += subscriber.listen(5)
        assert subscriber.get_message(0.1) is None
    assert (messages[-1]["type"], rebuilt(messages)) == ("done", "new")
    assert "retrying" not in told(messages)


def test_strict_publisher_of_a_cancelled_run_may_end_it(eager: Eager, project: str) -> None:
    """What raises RunCancelled for a token still takes the run's `error`: who catches it can say what happened."""
    with (
        follow(eager, project) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=eager.bus, strict=True) as publisher,
    ):
        publisher.publish_token("half")
        publisher.flush()
        assert background().call(eager.bus.cancel(Topic(project, STAGE), str(publisher.run_id)), 5)
        wait_until(lambda: publisher.cancelled)
        with pytest.raises(RunCancelled):
            publisher.publish_token("more")
        assert publisher.publish_error("stopped after a half", reason="cancelled")
        messages = list(subscriber.listen(5))
    assert (messages[-1]["error"], messages[-1]["reason"]) == ("stopped after a half", "cancelled")


def test_dying_twice_gives_no_lease_back(eager: Eager, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second signal while the first is handled (SIGQUIT sends two) leaves the run to its lease, not to the queue."""

    def interrupted(call: Any, timeout: float | None) -> Any:
        call.close()
        raise SystemExit

    with RedisStreamPublisher(project, STAGE, bus=eager.bus) as publisher:
        publisher.publish_token("half")
        publisher.flush()
        with monkeypatch.context() as patched:
            patched.setattr(background(), "call", interrupted)
            with pytest.raises(SystemExit):
                publisher.leave()
        assert publisher.close()
    assert eager.bus.liveness(Topic(project)).active == {STAGE}


def test_nested_tasks_have_their_own_publishers(eager: Eager, project: str) -> None:
    """A task that calls another one directly has its own publisher again afterwards."""

    @eager.app.task(shared=False, base=StageTask, bind=True, name="outer", stage="outer")
    def outer(self: Any, project_id: str) -> None:
        self.publisher.publish_token("before ")
        eager.tasks.rewrite(project_id, ["inner"])
        self.publisher.publish_token("after")

    with follow(eager, project, "outer") as subscriber, follow(eager, project) as inner:
        outer.delay(project)
        assert rebuilt(subscriber.listen(5)) == "before after"
        assert rebuilt(inner.listen(5)) == "inner"


def test_plain_publisher_joins_the_run_of_a_task(eager: Eager, project: str) -> None:
    """A helper of the task with a publisher of its own belongs to the task's run."""

    @eager.app.task(shared=False, base=StageTask, bind=True, name="helped", stage=STAGE)
    def helped(self: Any, project_id: str) -> None:
        with RedisStreamPublisher(project_id, STAGE, bus=eager.bus) as helper:
            helper.publish_item_completed("image", 1)
            helper.flush()
            assert helper.run_id == self.request.id

    with follow(eager, project) as subscriber:
        assert helped.delay(project).state == "SUCCESS"
        assert told(subscriber.listen(5)) == ["queued", "processing", "item_completed", "done"]
