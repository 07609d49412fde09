"""Tasks in real workers of each pool, with a real server as broker and bus."""

import re
from pathlib import Path
from typing import Any
from uuid import uuid4

from celery import chain

from stagecast import RedisStreamSubscriber
from stagecast.domain.topics import Topic
from stagecast.entrypoints.background import background
from stagecast.entrypoints.runs import announce
from tests.celery.app import images
from tests.celery.conftest import Worker, running_worker
from tests.reading import Message, rebuilt, told
from tests.servers import RedisServer, available_redis_kinds, start_redis
from tests.waiting import wait_until

STAGE = "rewrite"
WORDS = ["你好, ", "a ", "😀", "b ", "\n", "end"]
SECONDS = 30
"""After which a test has waited long enough for a message."""


def follow(worker: Worker, project: str, stage: str | None = STAGE) -> RedisStreamSubscriber:
    """A subscriber on the worker's bus."""
    return RedisStreamSubscriber(project, stage, bus=worker.bus)


def until(subscriber: RedisStreamSubscriber, kind: str) -> list[Message]:
    """Messages up to the first of type `kind`."""
    found: list[Message] = []
    while not found or found[-1]["type"] != kind:
        message = subscriber.get_message(SECONDS)
        assert message is not None, told(found)
        found.append(message)
    return found


def test_life_of_a_task(worker: Worker, project: str) -> None:
    """queued, processing, tokens, done arrive in this order, and the tokens make the task's result."""
    with follow(worker, project) as subscriber:
        result = worker.tasks.rewrite.delay(project, WORDS)
        messages = list(subscriber.listen(SECONDS))
    assert told(messages) == ["queued", "processing", "token", "done"]
    assert rebuilt(messages) == result.get(SECONDS) == "".join(WORDS)


def test_viewers_of_many_tasks_see_each_start(worker: Worker, project: str) -> None:
    """R25: Of 20 tasks at once each viewer, come before or after the start, is told the start first and all text."""
    results = [worker.tasks.rewrite.delay(f"{project}-{number}", [*WORDS, str(number)]) for number in range(20)]
    for number, result in enumerate(results):
        with follow(worker, f"{project}-{number}") as subscriber:
            messages = list(subscriber.listen(SECONDS))
        assert messages[0]["type"] == "stage_update"
        assert messages[0]["status"] in {"queued", "processing"}
        assert rebuilt(messages) == result.get(SECONDS)


def test_viewer_of_a_quiet_task(worker: Worker, project: str, tmp_path: Path) -> None:
    """R29: Who comes while the task says nothing learns its state at once, and then the rest."""
    gate = tmp_path / "gate"
    with follow(worker, project) as early:
        worker.tasks.held.delay(project, WORDS, str(gate))
        until(early, "item_completed")
        with follow(worker, project) as late:
            assert told(until(late, "item_completed")) == ["processing", "token", "item_completed"]
            gate.touch()
            messages = list(late.listen(SECONDS))
    assert told(messages) == ["token", "done"]
    assert messages[-2]["full_text"] == "".join(WORDS)


def test_task_that_was_sent_by_name(worker: Worker, project: str) -> None:
    """`send_task` knows nothing of us: the run is opened at the start of the execution."""
    with follow(worker, project) as subscriber:
        worker.app.send_task("rewrite", (project, WORDS))
        messages = list(subscriber.listen(SECONDS))
    assert told(messages) == ["processing", "token", "done"]
    assert rebuilt(messages) == "".join(WORDS)


def test_retries(worker: Worker, project: str) -> None:
    """R56: Each retry is announced before it starts, and the last attempt's tokens alone are the text."""
    with follow(worker, project) as subscriber:
        result = worker.tasks.flaky.delay(project, ["a", "b", "c", "d"], failures=2)
        messages = list(subscriber.listen(SECONDS))
    once = ["processing", "token", "retrying", "reset"]
    assert told(messages) == ["queued", *once, *once, "processing", "token", "done"]
    assert [message["retry_count"] for message in messages if message.get("status") == "retrying"] == [1, 2]
    assert rebuilt(messages) == result.get(SECONDS) == "a2 b2 c2 d2 "


def test_last_failure(worker: Worker, project: str) -> None:
    """Only the failure after the last retry is an `error`, with its retry count."""
    with follow(worker, project) as subscriber:
        worker.tasks.hopeless.delay(project)
        messages = list(subscriber.listen(SECONDS))
    attempt = ["processing", "token"]
    assert told(messages) == ["queued", *attempt, "retrying", "reset", *attempt, "error"]
    found = re.fullmatch(r"The task failed \((error [0-9a-f]{8})\)\.", str(messages[-1]["error"]))
    assert found
    assert messages[-1]["retry_count"] == 1
    line = wait_until(lambda: [line for line in worker.log.splitlines() if found[1] in line])
    assert "ConnectionError('no answer')" in line[0]


def test_images_in_parallel(worker: Worker, project: str) -> None:
    """The members of a chord stream into one run, whose items all count and which the body ends."""
    with follow(worker, project, "image_generation") as subscriber:
        images(worker.app, project, 10).apply_async()
        messages = list(subscriber.listen(SECONDS))
    words = told(messages)
    assert (words.count("done"), words[-1], words.count("reset")) == (1, "done", 0)
    numbers: list[Any] = [message["sequence_number"] for message in messages if message["type"] == "item_completed"]
    assert sorted(numbers) == list(range(10))
    assert messages[-1]["metadata"] == {"images": list(range(10))}


def test_chain_of_stages(worker: Worker, project: str) -> None:
    """On the project's topic a chain shows one stage after another, each with its own run."""
    with follow(worker, project, None) as subscriber, follow(worker, project, "storyboard") as second:
        tasks = worker.tasks
        chain(tasks.rewrite.s(project, WORDS), tasks.storyboard.s(project), app=worker.app).apply_async()
        messages = list(second.listen(SECONDS))
        both = [*until(subscriber, "done"), *until(subscriber, "done")]
    assert told(messages) == ["queued", "processing", "token", "done"]
    assert rebuilt(messages) == "".join(WORDS)
    assert [message["stage"] for message in both if message["type"] == "done"] == [STAGE, "storyboard"]


def test_cancelled_task(worker: Worker, project: str) -> None:
    """A run that a viewer cancels ends with `error`, reason cancelled, as soon as its task looks."""
    with follow(worker, project) as subscriber:
        result = worker.tasks.until_cancelled.delay(project)
        until(subscriber, "token")
        assert background().call(worker.bus.cancel(Topic(project, STAGE), result.id), 5)
        messages = list(subscriber.listen(SECONDS))
    assert told(messages) == ["error"]
    assert messages[0]["reason"] == "cancelled"


def test_run_cancelled_in_the_queue(worker: Worker, project: str) -> None:
    """A run that is cancelled while it waits is not executed, and whoever waits for its result learns it."""
    topic, task_id = Topic(project, STAGE), str(uuid4())
    with follow(worker, project) as subscriber:
        assert announce(worker.bus, topic, task_id, task_id)
        assert background().call(worker.bus.cancel(topic, task_id), 5)
        result = worker.app.send_task("rewrite", (project, WORDS), task_id=task_id)
        wait_until(result.ready, SECONDS)
        messages = list(subscriber.listen(SECONDS))
        assert subscriber.get_message(0.1) is None
    assert str(result.state) == "REVOKED"
    assert told(messages) == ["queued", "error"]
    assert messages[-1]["reason"] == "cancelled"


def test_redelivery_fences_what_still_runs(broker: RedisServer, project: str, tmp_path: Path) -> None:
    """R58: A task that is delivered a second time while the first still runs: only the second's stream counts."""
    first, second = tmp_path / "first", tmp_path / "second"
    second.touch()
    with running_worker(broker.url, "threads") as worker, follow(worker, project) as subscriber:
        task_id = str(uuid4())
        one = worker.app.send_task("held", (project, ["a", "b"], str(first)), task_id=task_id)
        until(subscriber, "item_completed")
        worker.app.send_task("held", (project, ["c", "d"], str(second)), task_id=task_id)
        messages = list(subscriber.listen(SECONDS))
        first.touch()
        wait_until(lambda: "a newer attempt of the task goes on" in worker.log, SECONDS)
        assert worker.log.count("succeeded") == 1
        assert subscriber.get_message(0.2) is None
        one.forget()
    assert told(messages) == ["reset", "processing", "token", "item_completed", "token", "done"]
    assert rebuilt(messages) == "cd"


def test_processes_of_one_task_each(project: str, tmp_path: Path) -> None:
    """R87: each process executes one task, their number changes, Redis drops idle connections: all streams are whole.

    One task is silent all the while, for longer than Redis keeps an idle connection. Nothing in the log complains.
    """
    words, gate = WORDS * 5, tmp_path / "gate"
    with start_redis(available_redis_kinds()[0], extra_args=["--timeout", "1"]) as server:
        more = ["--max-tasks-per-child", "1", "--autoscale", "4,1"]
        with running_worker(server.url, "prefork", *more) as worker:
            results = [worker.tasks.held.delay(f"{project}-silent", words, str(gate))]
            results += [worker.tasks.rewrite.delay(f"{project}-{number}", words) for number in range(50)]
            for name, result in [*enumerate(results[1:]), ("silent", results[0])]:
                if name == "silent":
                    gate.touch()
                with follow(worker, f"{project}-{name}") as subscriber:
                    messages = list(subscriber.listen(SECONDS))
                assert rebuilt(messages) == result.get(SECONDS) == "".join(words)
                assert messages[-1]["type"] == "done"
            assert "stagecast" not in worker.log
            assert "Traceback" not in worker.log


def test_gevent_pool(broker: RedisServer, project: str) -> None:
    """R92: 20 tasks stream at once in one process of green threads."""
    with running_worker(broker.url, "gevent") as worker:
        results = [worker.tasks.rewrite.delay(f"{project}-{number}", WORDS) for number in range(20)]
        for number, result in enumerate(results):
            with follow(worker, f"{project}-{number}") as subscriber:
                assert rebuilt(subscriber.listen(SECONDS)) == result.get(SECONDS) == "".join(WORDS)
        assert "Traceback" not in worker.log


def test_memory_bus_in_a_pool_of_processes_is_refused(broker: RedisServer, project: str) -> None:
    """R148: On a bus that ends at its process the task fails at once and says what to set, before it generates."""
    with running_worker(broker.url, "prefork", STAGECAST_BUS="memory://") as worker:
        result = worker.app.send_task("rewrite", (project, WORDS))
        wait_until(result.ready, SECONDS)
        assert result.state == "FAILURE"
        assert "STAGECAST_BUS" in str(result.result)
        wait_until(lambda: "NotConfigured" in worker.log, SECONDS)
