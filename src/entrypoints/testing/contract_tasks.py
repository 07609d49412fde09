"""Guarantee 8, runs under known ids: announced, executed by tasks, retried, redelivered, superseded."""

import pytest

from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import RunSuperseded
from stagecast.domain.events import (
    ItemCompleted,
    RunOpened,
    StageCompleted,
    StageFailed,
    StageUpdated,
)

from .actors import OTHER_STAGE, STAGE, Producer, openings, queued, reading, snapshot, state
from .backend import Backend, eventually, opened
from .claims import ContractTests

LIMITS = BusLimits()
SHORT_LEASE = BusLimits(lease=0.5)
SHORT_QUEUE = BusLimits(queue_deadline=0.3, lease=0.4)


class TaskRunsContract(ContractTests):
    """Runs under known ids: queued, executed by tasks, retried, redelivered, superseded."""

    async def test_08_attempts_are_numbered_by_nonce(self, backend: Backend) -> None:
        """Each execution of a task is a new attempt; the same nonce gets the same number again."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            attempts = list[int]()
            for nonce in ("a", "a", "b", "b", "c"):
                attempts.append((await Producer().open(bus, "run", nonce=nonce)).attempt)
            assert attempts == [1, 1, 2, 2, 3]
            await reader.until(lambda: len(openings(reader)) == 3)
            assert [event.attempt for event in reader.events(RunOpened)] == [1, 2, 3]
            known = await state(bus)
            assert (known.run, known.attempt, known.began) == ("run", 3, reader.published[0].position)

    async def test_08_attempts_fence_the_older_ones(self, backend: Backend) -> None:
        """Everything that an older attempt of a task sends is refused, and it is told so, again and again."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            old, new = Producer(), Producer()
            await old.open(bus, "run")
            await old.write(bus, "old")
            await new.open(bus, "run")
            await new.write(bus, "new")
            for event in (old.token("er", 3), old.item(1), old.update("zombie"), old.failed("zombie"), old.done()):
                receipt = await old.send(bus, event)
                assert (receipt.applied, receipt.refused, receipt.superseded) == (1, 1, True)
            assert (await old.send(bus)).superseded
            await new.send(bus, new.done())
            await reader.until_at(new.acknowledged)
            assert reader.contents() == ["old", "new"]
            assert reader.text == "new"
            assert not reader.events(ItemCompleted)
            assert not reader.events(StageFailed)

    async def test_08_attempts_of_group_members_do_not_fence_each_other(self, backend: Backend) -> None:
        """Fencing is by run and task: members of one run go on while another of them is retried."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            members = [Producer() for _ in range(3)]
            for number, member in enumerate(members):
                assert (await member.open(bus, "group", task=f"task{number}")).attempt == 1
            retried = Producer()
            assert (await retried.open(bus, "group", task="task1")).attempt == 2
            for number, member in ((0, members[0]), (2, members[2]), (1, retried)):
                receipt = await member.send(bus, member.item(number))
                assert (receipt.refused, receipt.superseded) == (0, False)
            assert (await members[1].send(bus, members[1].item(9))).superseded
            await reader.until_at(retried.acknowledged)
            assert {item.sequence_number for item in reader.events(ItemCompleted)} == {0, 1, 2}

    async def test_08_attempts_keep_items_and_restart_their_own_text(self, backend: Backend) -> None:
        """A new attempt of the writer's task begins the text anew; items stay, and other tasks' texts too."""
        async with opened(backend, LIMITS) as bus:
            writer, painter = Producer(), Producer()
            await writer.open(bus, "run", task="write")
            await painter.open(bus, "run", task="paint")
            await writer.write(bus, "text")
            await painter.send(bus, painter.item(1))
            again = Producer()
            await again.open(bus, "run", task="paint")
            assert (await state(bus)).text == "text"
            await writer.write(bus, " goes on")
            assert (await state(bus)).text == "text goes on"
            await Producer().open(bus, "run", task="write")
            known = await state(bus)
            assert (known.text, set(known.slots)) == ("", {"item:image:1"})

    async def test_08_attempts_reopen_a_run_that_had_ended(self, backend: Backend) -> None:
        """A redelivery of a task reopens its run: the end before it is no end, and its outcome is gone."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            first = Producer()
            await first.open(bus, "run")
            await first.send(bus, *first.tokens("first"), first.failed())
            second = Producer()
            await second.open(bus, "run")
            known = await state(bus)
            assert (known.in_progress, known.text, "outcome" in known.slots) == (True, "", False)
            await second.send(bus, *second.tokens("second"), second.done())
            await reader.until_at(second.acknowledged)
            assert isinstance(reader.state().slots["outcome"], StageCompleted)

    async def test_08_a_run_is_superseded_by_another(self, backend: Backend) -> None:
        """A newer run of the stage refuses the events, the openings and the announcements of the run before."""
        async with opened(backend, LIMITS) as bus:
            old, new = Producer(), Producer()
            await old.open(bus, "old")
            await old.write(bus, "old")
            await new.open(bus, "new")
            receipt = await old.send(bus, *old.tokens(" text"), old.done())
            assert (receipt.applied, receipt.refused, receipt.superseded) == (2, 2, True)
            with pytest.raises(RunSuperseded):
                await Producer().open(bus, "old")
            with pytest.raises(RunSuperseded):
                await bus.open_run(queued(STAGE, "old"))
            known = await state(bus)
            assert (known.run, known.text, known.in_progress) == ("new", "", True)

    async def test_08_a_run_superseded_many_runs_ago_is_remembered(self, backend: Backend) -> None:
        """A redelivery of one of the last sixteen superseded runs does not take the stage back."""
        async with opened(backend, LIMITS) as bus:
            for number in range(17):
                await Producer().open(bus, f"run{number}")
            for number in range(16):
                with pytest.raises(RunSuperseded):
                    await Producer().open(bus, f"run{number}")
            assert (await state(bus)).run == "run16"

    async def test_08_a_run_of_one_stage_leaves_others_alone(self, backend: Backend) -> None:
        """One run id in two stages (tasks of one group) is a run of each."""
        async with opened(backend, LIMITS) as bus:
            one, other = Producer(STAGE), Producer(OTHER_STAGE)
            await one.open(bus, "run")
            await other.open(bus, "run")
            await one.send(bus, one.done())
            assert (await state(bus, OTHER_STAGE)).in_progress
            assert not (await state(bus, STAGE)).in_progress

    async def test_08_a_queued_run_is_announced_once(self, backend: Backend) -> None:
        """Announcing shows `queued`; announcing again, at any time, changes nothing."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            announced = await bus.open_run(queued(STAGE, "run"))
            assert (announced.run, announced.attempt, announced.cancelled) == ("run", 0, False)
            await bus.open_run(queued(STAGE, "run"))
            producer = Producer()
            assert (await producer.open(bus, "run")).attempt == 1
            await bus.open_run(queued(STAGE, "run"))
            await producer.send(bus, *producer.tokens("text"), producer.done())
            again = await bus.open_run(queued(STAGE, "run"))
            assert again.position == producer.acknowledged
            await reader.until_at(producer.acknowledged)
            assert [update.status for update in reader.events(StageUpdated)] == ["queued"]
            known = await state(bus)
            assert (known.text, known.attempt, known.in_progress) == ("text", 1, False)

    async def test_08_a_queued_run_supersedes_the_one_before(self, backend: Backend) -> None:
        """Regenerating is a new run from its announcement on."""
        async with opened(backend, LIMITS) as bus:
            old = Producer()
            await old.open(bus, "old")
            await bus.open_run(queued(STAGE, "new"))
            assert (await old.send(bus, *old.tokens("late"))).superseded
            assert (await state(bus)).run == "new"

    async def test_08_a_queued_run_that_nobody_starts_ends(self, backend: Backend) -> None:
        """A run that waits beyond the queue deadline ends with one error (timeout); its late start reopens it."""
        async with opened(backend, SHORT_QUEUE) as bus, opened(backend, SHORT_QUEUE) as watching:
            async with reading(watching) as reader, reading(bus) as other_reader:
                await bus.open_run(queued(STAGE, "run"))
                await reader.until_any(StageFailed)
                late = Producer()
                await late.open(bus, "run")
                await late.send(bus, *late.tokens("late"), late.done())
                for one in (reader, other_reader):
                    await one.until_at(late.acknowledged)
                    assert [event.reason for event in one.events(StageFailed)] == ["timeout"]
            known = await state(bus)
            assert (known.run, known.text) == ("run", "late")
            assert isinstance(known.slots["outcome"], StageCompleted)

    async def test_08_a_queued_run_is_not_yet_alive(self, backend: Backend) -> None:
        """A waiting run has no living producer, a started one has, a finished one has none any more."""
        async with opened(backend, SHORT_LEASE) as bus, bus.subscribe(STAGE) as subscription:
            await bus.open_run(queued(STAGE, "run"))
            assert not subscription.liveness.active
            producer = Producer()
            await producer.open(bus, "run")

            async def alive() -> bool:
                await producer.send(bus)
                return subscription.liveness.active == {"stage"}

            await eventually(alive)
            await producer.send(bus, producer.done())
            await eventually(lambda: not subscription.liveness.active)

    async def test_08_a_queued_run_may_be_started_by_a_plain_publisher(self, backend: Backend) -> None:
        """A plain publisher joins the queued run, whose deadline is then over."""
        async with opened(backend, SHORT_QUEUE) as bus, reading(bus) as reader:
            await bus.open_run(queued(STAGE, "run"))
            producer = Producer()
            await producer.send(bus, producer.update())
            assert producer.run == "run"
            for number in range(60):
                await producer.send(bus, producer.item(number))
                await reader.until_at(producer.acknowledged)
            taken = await snapshot(bus)
            assert taken.stages["stage"].in_progress
            assert not reader.events(StageFailed)
