"""A publisher and its run: superseded, cancelled, not the writer, one run after the other."""

import pytest

from stagecast.domain.bus import Opening
from stagecast.domain.errors import (
    RunCancelled,
    RunSuperseded,
)
from stagecast.domain.events import (
    StageCompleted,
)
from stagecast.domain.outbox import OutboxLimits
from stagecast.domain.producing import TaskRun
from stagecast.domain.state import StageState
from tests.domain.flaky import CODEC, TOPIC, FlakyBus, bus, idle, publishing, stage
from tests.waiting import eventually

__all__ = ["bus"]


class TestRuns:
    """Being superseded, cancelled, or not the writer."""

    async def test_a_superseded_publisher_stops(self, bus: FlakyBus) -> None:
        """What waits is given up, what comes is refused: False, or RunSuperseded where strict."""
        async with publishing(bus) as old, publishing(bus, strict=True) as strict:
            for publisher in (old, strict):
                publisher.publish_stage_update("processing")
                assert await publisher.flush(5)
            async with publishing(bus, task=TaskRun(run="new", task="new")) as new:
                assert await new.opened(5)
                old.publish_token("late")
                assert not await old.flush(5)
                assert old.superseded
                assert not old.publish_token("later")
                strict.publish_item_completed("image", 1)
                assert not await strict.flush(5)
                with pytest.raises(RunSuperseded):
                    strict.publish_item_completed("image", 2)
                new.publish_token("new")
        assert (await stage(bus)).text == "new"

    async def test_a_task_of_a_superseded_run_does_not_begin(self, bus: FlakyBus) -> None:
        """A redelivery of an old run's task learns it at its opening, and what it had accepted is given up."""
        for run in ("old", "new"):
            async with publishing(bus, task=TaskRun(run=run, task=run)) as publisher:
                assert await publisher.opened(5)
        async with publishing(bus, task=TaskRun(run="old", task="old")) as late:
            late.publish_token("late")
            assert await late.opened(5) is None
            assert late.superseded
            assert not await late.flush(5)
            assert not late.publish_done()
        assert (await stage(bus)).text == ""

    async def test_a_cancelled_run_is_told(self, bus: FlakyBus) -> None:
        """A plain publisher sees `cancelled` and may still end its run; a strict one raises from then on."""
        async with publishing(bus) as publisher, publishing(bus, strict=True) as strict:
            publisher.publish_stage_update("processing")
            assert await publisher.flush(5)
            strict.publish_item_completed("image", 1)
            assert await strict.flush(5)
            assert publisher.run_id is not None
            assert await bus.cancel(TOPIC, publisher.run_id)
            for one in (publisher, strict):
                one.publish_progress(1, 2)
            await eventually(lambda: publisher.cancelled and strict.cancelled)
            with pytest.raises(RunCancelled):
                strict.publish_progress(2, 2)
            assert publisher.publish_error("stopped", reason="cancelled")
            assert await publisher.flush(5)
        assert not (await stage(bus)).in_progress

    async def test_a_task_of_a_cancelled_run_does_not_begin(self, bus: FlakyBus) -> None:
        """Its opening tells so, and its publisher accepts nothing."""
        task = TaskRun(run="run", task="task")
        async with publishing(bus, task=task) as first:
            assert await first.opened(5)
            assert await bus.cancel(TOPIC, "run")
            async with publishing(bus, task=TaskRun(run="run", task="task")) as second:
                opened = await second.opened(5)
                assert opened is not None
                assert opened.cancelled
                assert second.cancelled
                assert not second.publish_token("text")

    async def test_another_writers_text_is_left_alone(self, bus: FlakyBus) -> None:
        """A publisher whose tokens are refused stops sending any, and its other events go on."""
        async with publishing(bus) as writer, publishing(bus) as other:
            other.publish_token("other")
            assert await other.flush(5)
            writer.publish_token("writer")
            assert await writer.flush(5)
            other.publish_token(" more")
            assert not await other.flush(5)
            assert not other.publish_token(" and more")
            assert other.publish_item_completed("image", 1)
            assert await other.flush(5)
            known = await stage(bus)
            assert (known.text, set(known.slots)) == ("writer", {"item:image:1"})

    async def test_a_former_writer_does_not_spin(self, bus: FlakyBus) -> None:
        """Tokens that wait when the text is first another's and then nobody's are given up, not sent for ever."""
        async with publishing(bus, limits=OutboxLimits(batch_events=2)) as former:
            former.publish_token("a")
            assert await former.flush(5)
            assert former.run_id is not None
            task, latter = TaskRun(run=former.run_id, task="task"), idle(bus)

            async def begin_anew() -> None:
                opening = Opening(
                    topic=TOPIC, run=task.run, task=task.task, nonce="again", producer=latter._producer.id
                )
                await bus.bus.open_run(opening)

            async with publishing(bus, task=task) as writer:
                writer.publish_token("writer")
                assert await writer.flush(5)
                bus.after_foreign_text = begin_anew
                for _ in range(9):
                    former.publish_token("b")
                assert not await former.flush(5)
                calls = bus.calls
                former.publish_item_completed("image", 1)
                assert await former.flush(5)
                assert bus.calls - calls < 10
        known = await stage(bus)
        assert (known.text, known.attempt) == ("", 2)

    async def test_runs_follow_each_other(self, bus: FlakyBus) -> None:
        """One publisher may stream again after its end; each text is its own."""
        async with publishing(bus) as publisher:
            runs = set()
            for number in range(3):
                text = ""
                for piece in ("text ", f"{number}"):
                    text += piece
                    publisher.publish_token(piece, text)
                publisher.publish_done(text)
                assert await publisher.flush(5)
                assert (await stage(bus)).text == f"text {number}"
                runs.add(publisher.run_id)
        assert len(runs) == 3

    async def test_runs_that_wait_for_the_bus_keep_their_texts(self, bus: FlakyBus) -> None:
        """Two runs published while the bus was away arrive whole, one after the other."""
        seen = list[tuple[str, str]]()
        async with publishing(bus) as publisher:
            bus.is_away = True
            for number in range(3):
                text = ""
                for n in range(5):
                    text += f"{number}.{n} "
                    publisher.publish_token(f"{number}.{n} ", text)
                publisher.publish_done(text)
            bus.is_away = False
            assert await publisher.flush(5)
        state = StageState(project="123", stage="rewrite")
        for position, _, data in bus.bus._projects["123"].entries:
            event = CODEC.decode(data)
            shown = state.apply(position, event)
            if isinstance(shown, StageCompleted):
                seen.append((state.text, shown.full_text or ""))
        assert seen == [(text, text) for text in ("".join(f"{number}.{n} " for n in range(5)) for number in range(3))]
