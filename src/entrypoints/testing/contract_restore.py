"""Guarantee 15: after the backend lost data, what living producers hold comes back exactly; the rest is told lost."""

import asyncio
import time

from stagecast.domain.bus import BusLimits
from stagecast.domain.events import ItemCompleted, ProgressReported, StageCompleted, StageUpdated
from stagecast.domain.producing import TaskRun
from stagecast.domain.publishing import StagePublisher

from .actors import OTHER_STAGE, PROJECT, Producer, publishing, reading, shown, snapshot, state
from .backend import Backend, eventually, opened
from .claims import ContractTests

LIMITS = BusLimits(lease=2.0)
"""A short lease lets idle publishers renew, and so notice a loss, every 0.4 s."""


class RestoreContract(ContractTests):
    """Losing everything in the middle of things."""

    async def test_15_restore_of_a_text_in_the_making(self, backend: Backend) -> None:
        """Text, status, progress, items and the run come back, for who watched and for who comes later."""
        async with opened(backend, LIMITS) as bus, opened(backend, LIMITS) as watching, reading(watching) as reader:
            async with publishing(bus) as publisher:
                publisher.publish_stage_update("processing", 10, "working")
                publisher.publish_item_completed("image", 1, {"url": "one"})
                publisher.publish_progress(1, 3, "one")
                expected = await _write(publisher, 0, 100)
                run = publisher.run_id
                await reader.until(lambda: reader.text == expected)
                await backend.lose_everything()
                expected += await _write(publisher, 100, 200)
                publisher.publish_item_completed("image", 2)
                assert await publisher.flush(20)
                known = await state(bus)
                assert (known.run, known.attempt, known.text) == (run, 1, expected)
                assert set(known.slots) == {"status", "progress", "item:image:1", "item:image:2"}
                publisher.publish_done(expected)
            await reader.until_ended()
            final = await state(bus)
            assert reader.text == final.text == expected
            assert shown(reader.state()) == shown(final)
            assert reader.resets
            assert set(reader.resets) == {"epoch"}
            done = reader.state().slots["outcome"]
            assert isinstance(done, StageCompleted)
            assert done.full_text in {None, expected}
            assert reader.state().run == run

    async def test_15_restore_is_noticed_in_silence(self, backend: Backend) -> None:
        """A publisher with nothing to say restores by its next renewal; viewers wait for no event."""
        async with (
            opened(backend, LIMITS) as bus,
            opened(backend, LIMITS) as watching,
            reading(watching) as reader,
            publishing(bus) as publisher,
        ):
            expected = await _write(publisher, 0, 10)
            publisher.publish_item_completed("image", 1)
            assert await publisher.flush(20)
            await reader.until(lambda: "item:image:1" in reader.state().slots)
            await backend.lose_everything()
            await reader.until(lambda: reader.resets and "item:image:1" in reader.state().slots)
            await reader.until(lambda: reader.text == expected)
            publisher.publish_done(expected)

    async def test_15_restore_again_and_again(self, backend: Backend) -> None:
        """Losing everything many times, at any moment of a fast stream, costs no character."""
        async with opened(backend, LIMITS) as bus, opened(backend, LIMITS) as watching, reading(watching) as reader:
            async with publishing(bus) as publisher:
                expected = ""
                for number in range(12):
                    for n in range(60):
                        expected += f"{number}.{n} "
                        publisher.publish_token(f"{number}.{n} ")
                        if n % 7 == number % 7:
                            await asyncio.sleep(0)
                    await backend.lose_everything()
                publisher.publish_done(expected)
                assert await publisher.flush(20)
            await reader.until_ended()
            known = await state(bus)
            assert reader.text == known.text == expected
            assert known.run == publisher.run_id

    async def test_15_restore_of_each_stage_by_its_own(self, backend: Backend) -> None:
        """Each of a project's stages is restored by its own publisher, and a reader of all sees all of it."""
        async with (
            opened(backend, LIMITS) as bus,
            opened(backend, LIMITS) as watching,
            reading(watching, PROJECT) as reader,
        ):
            async with publishing(bus) as publisher, publishing(bus, OTHER_STAGE) as other:
                expected = await _write(publisher, 0, 50)
                other_expected = await _write(other, 1000, 1050)
                await backend.lose_everything()
                expected += await _write(publisher, 50, 100)
                other_expected += await _write(other, 1050, 1100)
                publisher.publish_done(expected)
                other.publish_done(other_expected)
            await reader.until(lambda: reader.state().ended and reader.state(OTHER_STAGE).ended)
            assert reader.state().text == expected
            assert reader.state(OTHER_STAGE).text == other_expected
            for name, known in (await snapshot(bus, PROJECT)).stages.items():
                assert shown(reader.stages[name]) == shown(known)

    async def test_15_restore_by_several_producers_of_one_stage(self, backend: Backend) -> None:
        """Parallel producers of one stage restore the items of each, and the writer the text."""
        async with opened(backend, LIMITS) as bus, opened(backend, LIMITS) as watching, reading(watching) as reader:
            async with publishing(bus) as writer, publishing(bus) as one, publishing(bus) as two:
                expected = await _write(writer, 0, 20)
                for publisher, kind in ((one, "image"), (two, "video")):
                    for number in range(5):
                        publisher.publish_item_completed(kind, number)
                    assert await publisher.flush(20)
                wanted = {f"item:{kind}:{number}" for kind in ("image", "video") for number in range(5)}
                await reader.until(lambda: wanted <= reader.state().slots.keys())
                await backend.lose_everything()
                await reader.until(lambda: reader.resets and wanted <= reader.state().slots.keys())
                expected += await _write(writer, 20, 40)
                await reader.until(lambda: reader.text == expected)
                assert len({publisher.run_id for publisher in (writer, one, two)}) == 1
                writer.publish_done(expected)
            await reader.until_ended()
            assert shown(reader.state()) == shown(await state(bus))

    async def test_15_restore_of_a_task_keeps_its_attempt(self, backend: Backend) -> None:
        """A task's run comes back under its id and with its attempt, and goes on to fence: a next attempt is newer."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            await Producer().open(bus, "run", task="task")
            async with publishing(bus, task=TaskRun(run="run", task="task")) as publisher:
                expected = await _write(publisher, 0, 20)
                assert publisher.attempt == 2
                await backend.lose_everything()
                expected += await _write(publisher, 20, 40)
                known = await state(bus)
                assert (known.run, known.attempt, known.text) == ("run", 2, expected)
                again = Producer()
                assert (await again.open(bus, "run", task="task")).attempt == 3
                await eventually(lambda: publisher.superseded)
                await again.send(bus, again.done("third"))
            await reader.until_ended()

    async def test_15_restore_does_not_unfence_an_attempt(self, backend: Backend) -> None:
        """An attempt that begins after a loss fences the one before it, which held more than the bus remembers."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            old, new = Producer(), Producer()
            await old.open(bus, "run")
            await old.write(bus, "old")
            await backend.lose_everything()
            await new.open(bus, "run")
            await new.write(bus, "new")
            assert (await old.send(bus, *old.tokens(" text"))).superseded
            await new.send(bus, new.done())
            await reader.until(lambda: reader.text == "new" and reader.state().ended)
            assert (await state(bus)).text == "new"

    async def test_15_restore_of_group_members(self, backend: Backend) -> None:
        """Members of one run restore their items each, without fencing each other."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            tasks = [TaskRun(run="group", task=f"task{number}") for number in range(3)]
            async with (
                publishing(bus, task=tasks[0]) as one,
                publishing(bus, task=tasks[1]) as two,
                publishing(bus, task=tasks[2]) as three,
            ):
                for number, publisher in enumerate((one, two, three)):
                    publisher.publish_item_completed("image", number)
                    assert await publisher.flush(20)
                wanted = {f"item:image:{number}" for number in range(3)}
                await reader.until(lambda: wanted <= reader.state().slots.keys())
                await backend.lose_everything()
                await reader.until(lambda: reader.resets and wanted <= reader.state().slots.keys())
                assert not any(publisher.superseded for publisher in (one, two, three))
                assert reader.state().run == "group"

    async def test_15_restore_of_an_end(self, backend: Backend) -> None:
        """A publisher that is still there after its `done` brings the end back too: no spinner."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader, publishing(bus) as publisher:
            publisher.publish_stage_update("processing")
            expected = await _write(publisher, 0, 20)
            publisher.publish_done(expected, {"tokens": 20})
            publisher.publish_stage_completed({"tokens": 20})
            assert await publisher.flush(20)
            await reader.until(lambda: "refreshed" in reader.state().slots)
            await backend.lose_everything()
            await reader.until(lambda: reader.resets and reader.state().ended)
            await reader.until(lambda: "refreshed" in reader.state().slots)
            known = await state(bus)
            assert known.text == expected
            assert {"status", "outcome", "refreshed"} <= known.slots.keys()

    async def test_15_restore_by_a_publisher_that_leaves(self, backend: Backend) -> None:
        """A publisher that closes right after a loss restores before it goes, its end included: nobody waits for it."""
        async with opened(backend, LIMITS) as bus, reading(bus, PROJECT) as reader:
            async with publishing(bus) as publisher, publishing(bus, OTHER_STAGE) as other:
                expected = await _write(publisher, 0, 20)
                publisher.publish_done(expected)
                other_expected = await _write(other, 0, 5)
                await reader.until_ended()
                await reader.until(lambda: reader.state(OTHER_STAGE).text == other_expected)
                await backend.lose_everything()
            await reader.until(lambda: reader.resets and reader.state(OTHER_STAGE).text == other_expected)
            await reader.until_ended()
            known = await state(bus)
            assert (known.text, known.run) == (expected, publisher.run_id)

    async def test_15_restore_of_nothing_is_told(self, backend: Backend) -> None:
        """What nobody holds is gone: viewers get a reset and an empty state, without waiting for anybody's event."""
        async with (
            opened(backend, LIMITS) as bus,
            opened(backend, LIMITS) as watching,
            reading(watching) as reader,
            reading(bus, PROJECT) as other_reader,
        ):
            gone = Producer()
            await gone.write(bus, "text")
            for one in (reader, other_reader):
                await one.until_at(gone.acknowledged)
            await backend.lose_everything()
            for one in (reader, other_reader):
                await one.until_reset()
                assert (one.resets, one.stages, one.position) == (["epoch"], {}, None)
            newer = Producer()
            await newer.write(bus, "newer")
            await reader.until_at(newer.acknowledged)
            assert reader.text == "newer"

    async def test_15_restore_of_what_is_held_alone(self, backend: Backend) -> None:
        """A stage whose publisher is gone stays lost while another stage's comes back."""
        async with opened(backend, LIMITS) as bus, reading(bus, PROJECT) as reader:
            gone = Producer(OTHER_STAGE)
            await gone.write(bus, "gone")
            async with publishing(bus) as publisher:
                expected = await _write(publisher, 0, 20)
                await reader.until(lambda: reader.text == expected and reader.state(OTHER_STAGE).text == "gone")
                await backend.lose_everything()
                await reader.until(lambda: reader.resets and reader.text == expected)
                taken = await snapshot(bus, PROJECT)
                assert taken.stages.keys() == {"stage"}
                assert reader.state(OTHER_STAGE).text == ""

    async def test_15_restore_is_asked_for_by_receipts(self, backend: Backend) -> None:
        """The first receipt after a loss applies nothing and asks for the state; what is sent then is applied."""
        async with opened(backend, LIMITS) as bus:
            producer = Producer()
            await producer.send(bus, producer.update(), *producer.tokens("text"))
            run = producer.run
            await backend.lose_everything()
            receipt = await producer.send(bus, *producer.tokens(" more"))
            assert (receipt.applied, receipt.need, receipt.run) == (0, "state", run)
            restored = (producer.update(), producer.token("text", 0, snapshot=True), producer.token(" more", 4))
            receipt = await producer.send(bus, *restored)
            assert (receipt.applied, receipt.need, receipt.run) == (3, None, run)
            assert (await state(bus)).text == "text more"

    async def test_15_restore_does_not_repeat_what_was_unanswered(self, backend: Backend) -> None:
        """A batch whose answer was lost together with the data is not doubled by its retry."""
        async with opened(backend, LIMITS) as bus:
            producer = Producer()
            await producer.write(bus, "text")
            batch = producer.batch(*producer.tokens(" more"))
            await bus.publish(batch)
            await backend.lose_everything()
            receipt = producer.took(await bus.publish(batch))
            assert (receipt.applied, receipt.need) == (0, "state")
            await producer.send(bus, producer.token("text", 0, snapshot=True), producer.token(" more", 4))
            assert (await state(bus)).text == "text more"

    async def test_15_restore_does_not_bring_back_a_superseded_run(self, backend: Backend) -> None:
        """After a loss the newer run wins, whichever producer speaks first of those that know their place."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            old = Producer()
            await old.open(bus, "old")
            async with publishing(bus, task=TaskRun(run="new", task="new")) as publisher:
                expected = await _write(publisher, 0, 20)
                assert (await old.send(bus, old.item(1))).superseded
                await reader.until(lambda: reader.text == expected)
                await backend.lose_everything()
                await reader.until(lambda: reader.resets and reader.text == expected)
                assert (await old.send(bus, old.item(1))).superseded
                known = await state(bus)
                assert (known.run, known.slots) == ("new", {})

    async def test_15_restore_with_more_items_than_a_batch_holds(self, backend: Backend) -> None:
        """However much a publisher holds, all of it comes back."""
        items = 700
        async with opened(backend, LIMITS) as bus, reading(bus) as reader, publishing(bus) as publisher:
            publisher.publish_stage_update("processing")
            for number in range(items):
                publisher.publish_item_completed("image", number)
            publisher.publish_progress(items, items)
            assert await publisher.flush(20)
            await reader.until(lambda: len(reader.state().slots) == items + 2)
            await backend.lose_everything()
            await reader.until(lambda: reader.resets and len(reader.state().slots) == items + 2)
            assert len({one.sequence_number for one in reader.events(ItemCompleted)}) == items
            assert reader.events(ProgressReported)[-1].current == items
            assert reader.events(StageUpdated)[-1].status == "processing"


async def _write(publisher: StagePublisher, start: int, stop: int) -> str:
    """Publish numbers as tokens and wait for them; the text that they make."""
    pieces = [f"{number} " for number in range(start, stop)]
    for piece in pieces:
        assert publisher.publish_token(piece)
    deadline = time.monotonic() + 20
    assert await publisher.flush(deadline - time.monotonic())
    return "".join(pieces)
