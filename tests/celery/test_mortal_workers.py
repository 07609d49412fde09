"""Tasks whose processes are killed, revoked or run out of time. A lease is a second here."""

import os
import signal
from pathlib import Path
from typing import Any

from tests.celery.conftest import Worker
from tests.celery.test_workers import SECONDS, WORDS, follow, until
from tests.reading import Message, rebuilt, told
from tests.waiting import wait_until


def process_of(messages: list[Message]) -> int:
    """The process that executes the task, as its last message tells."""
    metadata: dict[str, Any] = messages[-1]["metadata"]
    pid: int = metadata["pid"]
    return pid


def test_killed_process_ends_its_run(mortal: Worker, project: str, tmp_path: Path) -> None:
    """SIGKILL of the process leads to `error`, reason lease, and nobody is left waiting."""
    with follow(mortal, project) as subscriber:
        mortal.tasks.held.delay(project, WORDS, str(tmp_path / "never"))
        os.kill(process_of(until(subscriber, "item_completed")), signal.SIGKILL)
        messages = list(subscriber.listen(SECONDS))
    assert told(messages) == ["error"]
    assert messages[0]["reason"] == "lease"


def test_redelivery_after_a_kill(mortal: Worker, project: str, tmp_path: Path) -> None:
    """R56: A task that is delivered again after SIGKILL begins a new attempt, whose tokens alone are the text."""
    gate = tmp_path / "gate"
    with follow(mortal, project) as subscriber:
        result = mortal.tasks.held_again.delay(project, WORDS, str(gate))
        before = until(subscriber, "item_completed")
        gate.touch()
        os.kill(process_of(before), signal.SIGSTOP)  # or it would be done before it is killed
        os.kill(process_of(before), signal.SIGKILL)
        messages: list[Message] = list(subscriber.listen(SECONDS))
        if messages[-1]["type"] == "error":  # the lease may lapse before the message is delivered again
            assert messages[-1]["reason"] == "lease"
            messages += subscriber.listen(SECONDS)
    assert messages[-1]["type"] == "done"
    assert [message["attempt"] for message in messages if message["type"] == "reset"] == [2]
    assert rebuilt([*before, *messages]) == result.get(SECONDS) == "".join(WORDS)


def test_soft_time_limit(mortal: Worker, project: str, tmp_path: Path) -> None:
    """A soft time limit is an `error`, reason timeout, with the retries so far."""
    with follow(mortal, project) as subscriber:
        mortal.tasks.held.apply_async((project, WORDS, str(tmp_path / "never")), soft_time_limit=1)
        messages = list(subscriber.listen(SECONDS))
    assert told(messages) == ["queued", "processing", "token", "item_completed", "error"]
    assert (messages[-1]["reason"], messages[-1]["retry_count"]) == ("timeout", 0)


def test_hard_time_limit(mortal: Worker, project: str, tmp_path: Path) -> None:
    """R48: A task that is killed at its hard time limit is ended by its worker: reason timeout."""
    with follow(mortal, project) as subscriber:
        mortal.tasks.held.apply_async((project, WORDS, str(tmp_path / "never")), time_limit=1)
        messages = list(subscriber.listen(SECONDS))
    assert told(messages) == ["queued", "processing", "token", "item_completed", "error"]
    assert messages[-1]["reason"] == "timeout"


def test_revoked_while_it_streams(mortal: Worker, project: str, tmp_path: Path) -> None:
    """R49: A task that is revoked and terminated ends its run: reason cancelled."""
    with follow(mortal, project) as subscriber:
        result = mortal.tasks.held.delay(project, WORDS, str(tmp_path / "never"))
        until(subscriber, "item_completed")
        mortal.app.control.revoke(result.id, terminate=True)
        messages = list(subscriber.listen(SECONDS))
    assert told(messages) == ["error"]
    assert messages[0]["reason"] == "cancelled"


def test_revoked_before_its_start(mortal: Worker, project: str) -> None:
    """A task that is revoked while it waits is not executed, and its viewers are told: reason cancelled."""
    with follow(mortal, project) as subscriber:
        result = mortal.tasks.rewrite.apply_async((project, WORDS), countdown=1)
        wait_until(lambda: f"[{result.id}] received" in mortal.log, SECONDS)
        mortal.app.control.revoke(result.id)
        messages = list(subscriber.listen(SECONDS))
    assert told(messages) == ["queued", "error"]
    assert messages[-1]["reason"] == "cancelled"


def test_expired_in_the_queue(mortal: Worker, project: str) -> None:
    """A task that expires before its start is not executed, and its viewers are told: reason timeout."""
    with follow(mortal, project) as subscriber:
        mortal.tasks.rewrite.apply_async((project, WORDS), countdown=1, expires=0.5)
        messages = list(subscriber.listen(SECONDS))
    assert told(messages) == ["queued", "error"]
    assert messages[-1]["reason"] == "timeout"
