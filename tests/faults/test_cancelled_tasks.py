"""A run that is cancelled over HTTP while a real worker executes it: its task ends cleanly, and every viewer is told.

A lease is ten minutes here: only what the task itself learns can end its run in time.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult

from stagecast.domain.bus import BusLimits
from tests.celery.conftest import Worker
from tests.faults.workers import SECONDS, Show, Site, Viewer, got, is_text, show, site
from tests.reading import told
from tests.sse.browser import stage_path
from tests.waiting import eventually


@pytest.fixture(scope="module")
def place() -> Iterator[Site]:
    with site(BusLimits(lease=600)) as made:
        yield made


@pytest.fixture(scope="module")
def worker(place: Site) -> Iterator[Worker]:
    with place.worker() as started:
        yield started


async def cancel(stage: Show, run: str = "") -> dict[str, Any]:
    """What the server answers."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{stage.site.server.port}", timeout=SECONDS) as client:
        path = f"/api/v1/projects/{stage.project}/stages/rewrite/cancel"
        answer = await client.post(path, params={"run": run} if run else {})
    found: dict[str, Any] = answer.json()
    assert answer.status_code == (202 if found["cancelled"] else 200)
    return found


async def assert_revoked(result: AsyncResult[str]) -> None:
    """Celery calls the task neither a success nor a failure."""
    with pytest.raises(TaskRevokedError):
        await got(result)
    assert str(result.state) == "REVOKED"


@pytest.mark.parametrize(
    ("name", "last"),
    [("polite", None), ("strict", None), ("once", ""), ("stubborn", "fail")],
    ids=["looks while it is idle", "is told by an exception", "never looks", "fails and would be retried"],
)
async def test_a_cancelled_task_ends_cleanly(
    place: Site, worker: Worker, tmp_path: Path, name: str, last: str | None
) -> None:
    """All viewers get the text so far and one `error`, reason cancelled; nothing that waits for a success goes on."""
    async with show(place, tmp_path) as stage:
        logged = len(worker.log)
        task, after = getattr(place.tasks, name), place.tasks.follow_up
        result = task.apply_async(stage.arguments, link=after.s(str(stage.folder)))
        await stage.process()
        answer = await cancel(stage)
        assert (answer["run"], answer["cancelled"]) == (result.id, True)
        if last is not None:  # it does not look: the run ends with the task
            await eventually((stage.folder / "cancelled").exists, SECONDS)
            stage.opens(fault=last)
        ends = await stage.ended()
        assert [(end["type"], end["reason"]) for end in ends] == [("error", "cancelled")] * 4
        await assert_revoked(result)
        kept = (await stage.fresh()).text
        assert is_text(kept)
        assert [viewer.text for viewer in stage.crowd] == [kept] * 4
        assert told(stage.early.messages).count("processing") == 1
        assert "retrying" not in told(stage.early.messages)
        await eventually(lambda: f"[{result.id}] ignored" in worker.log, SECONDS)
        assert "Traceback" not in worker.log[logged:]
        assert not (stage.folder / "follow_up").exists()
        place.assert_nothing_lives_for_ever(stage.project)


async def test_a_task_that_was_cancelled_in_the_queue_is_not_executed(
    place: Site, worker: Worker, tmp_path: Path
) -> None:
    """Its viewers are told at once, and whoever waits for its result is told when its turn comes."""
    async with show(place, tmp_path) as stage:
        result = place.tasks.once.apply_async(stage.arguments, countdown=1)
        await stage.reaches(lambda message: message.get("status") == "queued")
        assert (await cancel(stage, result.id))["cancelled"]
        assert [(end["type"], end["reason"]) for end in await stage.ended()] == [("error", "cancelled")] * 3
        await assert_revoked(result)
        assert not (stage.folder / "began-1").exists()
        place.assert_nothing_lives_for_ever(stage.project)


async def test_a_run_that_was_begun_after_a_cancel_is_left_alone(place: Site, worker: Worker, tmp_path: Path) -> None:
    """Cancelled and generated again: the new run is not the old one's, whose cancel may even come a second time."""
    async with show(place, tmp_path) as stage:
        old = place.tasks.polite.delay(*stage.arguments)
        await stage.process()
        assert (await cancel(stage))["cancelled"]
        await stage.ended()
        await assert_revoked(old)
        new = place.tasks.once.delay(*stage.arguments)
        viewer = Viewer(stage.site.server.port, stage_path(stage.project))
        watching = asyncio.create_task(viewer.watch("done", "error"))
        await stage.reaches(lambda message: message["type"] == "token", viewer)
        assert await cancel(stage, old.id) == {
            "project_id": stage.project,
            "stage": "rewrite",
            "run": old.id,
            "cancelled": False,
        }
        stage.opens()
        text = await got(new)
        await watching
        assert is_text(text)
        assert (viewer.end["type"], viewer.text) == ("done", text)
