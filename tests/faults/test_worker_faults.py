"""What happens to a worker in mid-token, and what all viewers of its task see: an end, or the next attempt's text.

Tasks are of `tests.faults.tasks`: each token tells its attempt and number, so a mix of two attempts is no text of any.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen
from celery.result import AsyncResult

from stagecast.domain.bus import BusLimits
from tests.celery.conftest import Worker
from tests.faults.workers import SECONDS, Show, Site, got, is_gone, is_text, show, site
from tests.reading import Message
from tests.waiting import eventually

LEASE = 1.5
HASTY = BusLimits(lease=LEASE)


@pytest.fixture(scope="module")
def hasty() -> Iterator[Site]:
    """A lease is short."""
    with site(HASTY) as made:
        yield made


@pytest.fixture(scope="module")
def patient() -> Iterator[Site]:
    """The limits are the defaults: no lease lapses while a task is delivered again."""
    with site(BusLimits()) as made:
        yield made


@pytest.fixture(scope="module")
def worker(hasty: Site) -> Iterator[Worker]:
    with hasty.worker() as started:
        yield started


@pytest.fixture(scope="module")
def patient_worker(patient: Site) -> Iterator[Worker]:
    with patient.worker() as started:
        yield started


def attempts(messages: list[Message]) -> list[int]:
    """The attempts that the resets of a viewer tell."""
    return [message["attempt"] for message in messages if message["type"] == "reset"]


@frozen
class Fault:
    """A way for a task to end without success, and the reason that viewers are told."""

    name: str
    reason: str | None
    options: dict[str, Any] = field(factory=dict)
    signal: int | None = None
    revoke: str = ""
    inside: str = ""
    """A fault that the task itself has."""
    kills: bool = True
    """The task's process."""

    def __str__(self) -> str:
        return self.name


FAULTS = [
    Fault("killed child", "lease", signal=signal.SIGKILL),
    Fault("terminated child", "lease", signal=signal.SIGTERM),
    Fault("exit like the OOM killer's", "lease", inside="exit"),
    Fault("exception", None, inside="fail", kills=False),
    Fault("soft time limit", "timeout", {"soft_time_limit": 1}, kills=False),
    Fault("hard time limit", "timeout", {"time_limit": 1}),
    Fault("revoked and terminated", "cancelled", revoke="SIGTERM"),
    Fault("revoked and killed", "cancelled", revoke="SIGKILL"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_a_task_that_breaks_in_mid_token_ends_for_all(
    hasty: Site, worker: Worker, tmp_path: Path, fault: Fault
) -> None:
    """R48, R49: each viewer, early, late, in deltas or with a torn line, gets all tokens and one end with a reason."""
    async with show(hasty, tmp_path) as stage:
        result = hasty.tasks.once.apply_async(stage.arguments, **fault.options)
        pid = await stage.process()
        if fault.signal is not None:
            os.kill(pid, fault.signal)
        if fault.revoke:
            worker.app.control.revoke(result.id, terminate=True, signal=fault.revoke)
        if fault.inside:
            stage.opens(fault=fault.inside)
        ends = await stage.ended()
        assert [(end["type"], end.get("reason")) for end in ends] == [("error", fault.reason)] * 4
        kept = (await stage.fresh()).text
        assert is_text(kept)
        assert [viewer.text for viewer in stage.crowd] == [kept] * 4
        assert stage.crowd[2].connections == 2
        if fault.kills:
            await eventually(lambda: is_gone(pid), SECONDS)
        hasty.assert_nothing_lives_for_ever(stage.project)


async def test_a_silent_task_is_not_dead_and_a_dead_one_is_not_hidden(
    hasty: Site, worker: Worker, tmp_path: Path
) -> None:
    """R43: silent for three leases a task goes on and is done; a dead one beside it ends, whatever heartbeats come."""
    async with show(hasty, tmp_path) as slow, show(hasty, tmp_path) as dead:
        for stage in (slow, dead):
            (stage.folder / "silent").touch()
        result = hasty.tasks.once.delay(*slow.arguments)
        hasty.tasks.once.delay(*dead.arguments)
        await slow.process()
        os.kill(await dead.process(), signal.SIGKILL)
        before = [viewer.heartbeats for viewer in slow.crowd]
        await asyncio.sleep(3 * LEASE)
        assert [(end["type"], end["reason"]) for end in await dead.ended()] == [("error", "lease")] * 4
        assert all(viewer.end["type"] == "item_completed" for viewer in slow.crowd)
        assert all(viewer.heartbeats > count + 5 for viewer, count in zip(slow.crowd, before, strict=True))
        slow.opens()
        assert [end["type"] for end in await slow.ended()] == ["done"] * 4
        assert {viewer.text for viewer in slow.crowd} == {await got(result)}
        hasty.assert_nothing_lives_for_ever(slow.project)


async def test_a_process_that_was_only_frozen_goes_on(hasty: Site, worker: Worker, tmp_path: Path) -> None:
    """Frozen for longer than a lease it is presumed dead, and viewers are told; awake it brings its whole text."""
    async with show(hasty, tmp_path) as stage:
        result = hasty.tasks.once.delay(*stage.arguments)
        pid = await stage.process()
        os.kill(pid, signal.SIGSTOP)
        try:
            assert [end["reason"] for end in await stage.ended()] == ["lease"] * 4
        finally:
            os.kill(pid, signal.SIGCONT)
        stage.opens()
        text = await got(result)
        assert is_text(text)
        viewer = await stage.fresh()
        assert (viewer.end["type"], viewer.text) == ("done", text)
        hasty.assert_nothing_lives_for_ever(stage.project)


async def test_a_killed_task_that_is_delivered_again(patient: Site, patient_worker: Worker, tmp_path: Path) -> None:
    """R56: with acks_late and reject_on_worker_lost every viewer is reset and sees the second attempt's text alone."""
    async with show(patient, tmp_path) as stage:
        result = patient.tasks.again.delay(*stage.arguments)
        os.kill(await stage.process(), signal.SIGKILL)
        stage.opens("go-2")
        assert [end["type"] for end in await stage.ended()] == ["done"] * 4
        text = await got(result)
        assert is_text(text, 2)
        assert [viewer.text for viewer in stage.crowd] == [text] * 4
        assert [attempts(viewer.messages) for viewer in stage.crowd] == [[2]] * 4
        patient.assert_nothing_lives_for_ever(stage.project)


async def test_retries_with_back_off(patient: Site, patient_worker: Worker, tmp_path: Path) -> None:
    """R56: each failure is `retrying`, each attempt a reset, and only the last one's tokens are the text."""
    async with show(patient, tmp_path) as stage:
        for attempt in (1, 2):
            stage.opens(f"go-{attempt}", "fail")
        result = patient.tasks.stubborn.delay(*stage.arguments)
        await stage.process(3)
        stage.opens("go-3")
        assert [end["type"] for end in await stage.ended()] == ["done"] * 4
        text = await got(result)
        assert is_text(text, 3)
        assert [viewer.text for viewer in stage.crowd] == [text] * 4
        *watchers, late = [attempts(viewer.messages) for viewer in stage.crowd]
        assert (watchers, late) == ([[2, 3]] * 3, [])
        counts = [message["retry_count"] for message in stage.early.messages if message.get("status") == "retrying"]
        assert counts == [1, 2]
        patient.assert_nothing_lives_for_ever(stage.project)


async def finished(stage: Show, result: AsyncResult[str]) -> None:
    """Let the second attempt finish, and wait until everybody knows."""
    stage.opens("go-2")
    assert [end["type"] for end in await stage.ended()] == ["done"] * 4
    await got(result)
    await eventually((stage.folder / "follow_up").exists, SECONDS)


@pytest.mark.parametrize("wakes", ["beside it", "after it"])
async def test_a_zombie_that_wakes_is_not_seen(
    patient: Site, patient_worker: Worker, tmp_path: Path, wakes: str
) -> None:
    """R58: frozen, delivered again and thawed beside or after its replacement, an attempt shows nothing any more.

    Nor does it touch what Celery knows: the result is the replacement's, and what comes after a success comes once.
    """
    async with show(patient, tmp_path) as stage:
        task, after, logged = patient.tasks.again, patient.tasks.follow_up, len(patient_worker.log)
        result = task.apply_async(stage.arguments, link=after.s(str(stage.folder)))
        zombie = await stage.process()
        os.kill(zombie, signal.SIGSTOP)
        try:
            stage.opens("go-1")
            patient.redeliver()
            assert await stage.process(2) != zombie
            if wakes == "after it":
                await finished(stage, result)
        finally:
            os.kill(zombie, signal.SIGCONT)
        await eventually(lambda: f"[{result.id}] ignored" in patient_worker.log, SECONDS)
        assert "follow_up" not in os.listdir(stage.folder) or wakes == "after it"
        if wakes == "beside it":
            await finished(stage, result)
        text = await got(result)
        assert is_text(text, 2)
        assert [viewer.text for viewer in [*stage.crowd, await stage.fresh()]] == [text] * 5
        assert "Traceback" not in patient_worker.log[logged:]
        patient.assert_nothing_lives_for_ever(stage.project)
