"""A whole worker that ends: what it executed, what it had reserved, and what its successor takes over."""

import asyncio
import signal
from pathlib import Path

import pytest

from stagecast.domain.bus import BusLimits
from tests.faults.workers import SECONDS, family, got, is_gone, is_text, send, show, site
from tests.waiting import eventually

HASTY = BusLimits(lease=1.5, queue_deadline=3)


async def test_a_warm_shutdown_lets_the_task_finish(tmp_path: Path) -> None:
    """After SIGTERM the task streams to its end, which all viewers see; then nothing of the worker is left."""
    with site(HASTY) as made, made.worker() as worker:
        processes = family(worker.process.pid)
        async with show(made, tmp_path) as stage:
            result = made.tasks.once.delay(*stage.arguments)
            assert await stage.process() in processes
            worker.process.send_signal(signal.SIGTERM)
            await eventually(lambda: "Warm shutdown" in worker.log, SECONDS)
            stage.opens()
            assert [end["type"] for end in await stage.ended()] == ["done"] * 4
            text = await got(result)
            assert is_text(text)
            assert [viewer.text for viewer in stage.crowd] == [text] * 4
            assert await asyncio.to_thread(worker.process.wait, SECONDS) == 0
            await eventually(lambda: all(map(is_gone, processes)), SECONDS)
            made.assert_nothing_lives_for_ever(stage.project)


@pytest.mark.parametrize("death", [signal.SIGQUIT, signal.SIGKILL], ids=lambda number: number.name)
async def test_a_worker_that_ends_at_once_leaves_nobody_waiting(death: signal.Signals, tmp_path: Path) -> None:
    """R51: SIGQUIT, or SIGKILL of the whole tree: what it executed ends by its lease, what it had only reserved by the
    queue's deadline. A successor takes over what is delivered again, and who looks then sees that alone."""
    with site(HASTY) as made:
        async with show(made, tmp_path) as lost, show(made, tmp_path) as again, show(made, tmp_path) as reserved:
            with made.worker("--concurrency", "2") as worker:
                made.tasks.once.delay(*lost.arguments)
                second = made.tasks.again.delay(*again.arguments)
                await lost.process()
                await again.process()
                waiting = made.tasks.once.delay(*reserved.arguments)
                await eventually(lambda: f"[{waiting.id}] received" in worker.log, SECONDS)
                processes = family(worker.process.pid)
                assert len(processes) >= 3
                send(processes if death == signal.SIGKILL else processes[:1], death)
                assert [end["reason"] for end in await lost.ended()] == ["lease"] * 4
                assert [end["reason"] for end in await again.ended()] == ["lease"] * 4
                assert [end["reason"] for end in await reserved.ended()] == ["timeout"] * 3
                assert "began-1" not in {path.name for path in reserved.folder.iterdir()}
                await eventually(lambda: worker.process.poll() is not None, SECONDS)
                await eventually(lambda: all(map(is_gone, processes)), SECONDS)
            text = (await lost.fresh()).text
            assert is_text(text)
            assert [viewer.text for viewer in lost.crowd] == [text] * 4
            made.redeliver()
            again.opens()
            reserved.opens()
            with made.worker():
                for stage, result, attempt in ((again, second, 2), (reserved, waiting, 1)):
                    text = await got(result)
                    assert is_text(text, attempt)
                    viewer = await stage.fresh()
                    assert (viewer.end["type"], viewer.text) == ("done", text)
            assert (await lost.fresh()).end["reason"] == "lease"
            for stage in (lost, again, reserved):
                made.assert_nothing_lives_for_ever(stage.project)
