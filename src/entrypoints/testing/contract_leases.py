"""Guarantees 13 and 14: dead producers end their run, living ones keep it, and a run can be cancelled."""

import asyncio
from time import monotonic

from stagecast.domain.bus import BusLimits
from stagecast.domain.events import StageCompleted, StageFailed, StageUpdated

from .actors import OTHER_STAGE, PROJECT, STAGE, Producer, openings, publishing, queued, reading, snapshot, state
from .backend import Backend, eventually, opened
from .claims import ContractTests

LIMITS = BusLimits()
SHORT_LEASE = BusLimits(lease=0.5)


class LeaseContract(ContractTests):
    """Who watches, and what it takes to lose a run."""

    async def test_13_lease_of_a_dead_producer_ends_its_run_once(self, backend: Backend) -> None:
        """However many processes watch, a run whose producer has died ends with exactly one error (lease)."""
        async with (
            opened(backend, SHORT_LEASE) as bus,
            opened(backend, SHORT_LEASE) as one,
            opened(backend, SHORT_LEASE) as two,
            reading(one) as first,
            reading(two, PROJECT) as second,
            reading(bus) as third,
        ):
            dead = Producer()
            await dead.write(bus, "text")
            for reader in (first, second, third):
                await reader.until_ended()
            marker = Producer(STAGE)
            await marker.send(bus, marker.item(1))
            for reader in (first, second, third):
                await reader.until_at(marker.acknowledged)
                assert [event.reason for event in reader.events(StageFailed)] == ["lease"]
            known = await state(bus)
            assert (known.run, known.text) == (dead.run, "text")

    async def test_13_lease_of_a_living_producer_is_kept(self, backend: Backend) -> None:
        """A publisher that has nothing to say for several lease times keeps its run."""
        async with (
            opened(backend, SHORT_LEASE) as bus,
            opened(backend, SHORT_LEASE) as watching,
            reading(watching) as reader,
        ):
            async with publishing(bus) as publisher:
                publisher.publish_token("text")
                began = monotonic()
                await eventually(lambda: monotonic() - began > 4 * SHORT_LEASE.lease)
                publisher.publish_done("text")
            await reader.until_ended()
            assert not reader.events(StageFailed)
            assert len(openings(reader)) == 1

    async def test_13_lease_of_one_living_producer_keeps_the_run(self, backend: Backend) -> None:
        """A run with a dead and a living producer goes on; when the last one dies too it ends."""
        async with opened(backend, SHORT_LEASE) as bus, reading(bus) as reader:
            dead, living = Producer(), Producer()
            await dead.send(bus, dead.update())
            began = monotonic()

            async def renewed() -> bool:
                await living.send(bus, living.item(1))
                return monotonic() - began > 3 * SHORT_LEASE.lease

            await eventually(renewed)
            assert not reader.events(StageFailed)
            await reader.until_any(StageFailed)

    async def test_13_lease_that_is_given_back_is_no_death(self, backend: Backend) -> None:
        """A producer that closes without an end leaves its run waiting, as for a retry, not failed."""
        async with opened(backend, SHORT_LEASE) as bus, reading(bus, PROJECT) as reader:
            gone, dead = Producer(), Producer(OTHER_STAGE)
            await gone.send(bus, gone.update("retrying"))
            await gone.send(bus, release=True)
            await dead.send(bus, dead.update())
            await reader.until_any(StageFailed)
            assert [event.stage for event in reader.events(StageFailed)] == ["other"]
            assert (await state(bus)).in_progress

    async def test_13_lease_never_taken_is_no_hole(self, backend: Backend) -> None:
        """A producer that opens a run and gives its lease back in one batch leaves a run with a deadline."""
        limits = BusLimits(lease=0.4, queue_deadline=0.3)
        async with opened(backend, limits) as bus, reading(bus) as reader:
            gone = Producer()
            await gone.send(bus, gone.update(), release=True)
            await reader.until_any(StageFailed)
            assert [event.reason for event in reader.events(StageFailed)] == ["timeout"]

    async def test_13_lease_of_a_fenced_attempt_is_forgotten(self, backend: Backend) -> None:
        """An attempt that died is no concern of the next one: while that waits for its retry the run is not failed."""
        async with opened(backend, SHORT_LEASE) as bus, reading(bus, PROJECT) as reader:
            dead, retrying, other = Producer(), Producer(), Producer(OTHER_STAGE)
            await dead.open(bus, "run")
            await retrying.open(bus, "run")
            await retrying.send(bus, retrying.update("retrying"), release=True)
            await other.send(bus, other.update())
            await reader.until_any(StageFailed)
            assert [event.stage for event in reader.events(StageFailed)] == ["other"]
            third = Producer()
            await third.open(bus, "run")
            await third.send(bus, third.done())
            await reader.until_at(third.acknowledged)
            assert not [event for event in reader.events(StageFailed) if event.stage == "stage"]

    async def test_13_lease_of_a_producer_presumed_dead(self, backend: Backend) -> None:
        """A producer that was only away reopens its run with its text, as if nothing had been."""
        async with (
            opened(backend, SHORT_LEASE) as bus,
            opened(backend, SHORT_LEASE) as watching,
            reading(watching) as reader,
        ):
            producer = Producer()
            await producer.send(bus, producer.update("processing"), *producer.tokens("before"), producer.item(1))
            await reader.until_any(StageFailed)
            await producer.write(bus, " and after")
            await producer.send(bus, producer.done())
            await reader.until_at(producer.acknowledged)
            for known in (await state(bus), reader.state()):
                assert (known.run, known.text) == (producer.run, "before and after")
                assert isinstance(known.slots["outcome"], StageCompleted)
                assert {"status", "item:image:1"} <= known.slots.keys()
            assert set(openings(reader)) == {producer.run}

    async def test_13_lease_of_a_producer_presumed_dead_that_renews(self, backend: Backend) -> None:
        """A sign of life without an event reopens the run too; giving the lease back does not."""
        async with opened(backend, SHORT_LEASE) as bus, reading(bus) as reader:
            producer = Producer()
            await producer.write(bus, "text")
            await reader.until_ended()
            receipt = await producer.send(bus)
            assert (receipt.need, receipt.superseded) == (None, False)
            assert (await state(bus)).in_progress
            await reader.until(lambda: len(reader.events(StageFailed)) == 2)
            await producer.send(bus, release=True)
            known = await state(bus)
            assert (known.in_progress, known.text) == (False, "text")

    async def test_13_lease_of_an_attempt_presumed_dead_is_taken_by_the_next(self, backend: Backend) -> None:
        """After a lapse a redelivery reopens the run, and the attempt before stays fenced."""
        async with opened(backend, SHORT_LEASE) as bus, reading(bus) as reader:
            paused = Producer()
            await paused.open(bus, "run")
            await paused.write(bus, "paused")
            await reader.until_ended()
            redelivered = Producer()
            assert (await redelivered.open(bus, "run")).attempt == 2
            await redelivered.write(bus, "redelivered")
            assert (await paused.send(bus, *paused.tokens(" text"))).superseded
            await redelivered.send(bus, redelivered.done())
            await reader.until_at(redelivered.acknowledged)
            assert reader.text == "redelivered"

    async def test_13_lease_is_watched_by_late_comers_too(self, backend: Backend) -> None:
        """Who subscribes long after the death still sees the end within a bound; nobody needs to watch before."""
        async with opened(backend, SHORT_LEASE) as bus:
            dead = Producer()
            await dead.write(bus, "text")
            dead_since = monotonic()
            await eventually(lambda: monotonic() - dead_since > 2 * SHORT_LEASE.lease)
            assert (await state(bus)).in_progress
            async with reading(bus) as reader:
                await reader.until_any(StageFailed)

    async def test_13_lease_shows_in_liveness(self, backend: Backend) -> None:
        """A subscription knows which of its stages have a living producer."""
        async with (
            opened(backend, SHORT_LEASE) as bus,
            bus.subscribe(PROJECT) as all_stages,
            bus.subscribe(OTHER_STAGE) as one_stage,
        ):
            async with publishing(bus) as publisher, publishing(bus, OTHER_STAGE) as other:
                publisher.publish_stage_update("processing")
                other.publish_stage_update("processing")
                await eventually(lambda: all_stages.liveness.active == {"stage", "other"})
                await eventually(lambda: one_stage.liveness.active == {"other"})
                publisher.publish_done()
                await eventually(lambda: all_stages.liveness.active == {"other"})
                other.publish_done()
            await eventually(lambda: not all_stages.liveness.active)

    async def test_13_lease_ends_with_its_run(self, backend: Backend) -> None:
        """Where somebody else has ended the run of a dead producer, nothing of the stage is alive."""
        async with opened(backend, LIMITS) as bus, bus.subscribe(STAGE) as subscription:
            dead, other = Producer(), Producer()
            await dead.open(bus, "run")
            await eventually(lambda: subscription.liveness.active)
            await other.send(bus, other.failed("time limit"))
            await eventually(lambda: not subscription.liveness.active)


class CancelContract(ContractTests):
    """Asking a run to stop."""

    async def test_14_cancel_is_told_to_the_producers(self, backend: Backend) -> None:
        """A cancelled run goes on until its producer ends it; receipts and renewals tell the producer."""
        async with opened(backend, LIMITS) as bus, opened(backend, LIMITS) as canceller:
            producer = Producer()
            await producer.open(bus, "run")
            assert not (await producer.send(bus, *producer.tokens("text"))).cancelled
            assert await canceller.cancel(STAGE, "run")
            assert await canceller.cancel(STAGE, "run")
            assert (await producer.send(bus)).cancelled
            assert (await producer.send(bus, *producer.tokens(" more"))).cancelled
            known = await state(bus)
            assert (known.in_progress, known.text) == (True, "text more")
            receipt = await producer.send(bus, producer.failed("stopped"))
            assert (receipt.cancelled, receipt.refused) == (True, 0)
            assert not await canceller.cancel(STAGE, "run")

    async def test_14_cancel_reaches_an_idle_publisher(self, backend: Backend) -> None:
        """A publisher that is silent learns of it by its own renewals."""
        async with opened(backend, LIMITS) as bus, publishing(bus) as publisher:
            publisher.publish_stage_update("processing")
            assert await publisher.flush(20)
            assert publisher.run_id is not None
            assert await bus.cancel(STAGE, publisher.run_id)
            await eventually(lambda: publisher.cancelled)
            publisher.publish_error("stopped", reason="cancelled")

    async def test_14_cancel_survives_attempts(self, backend: Backend) -> None:
        """A cancelled run stays cancelled for its next attempt, which does not begin."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            first = Producer()
            await first.open(bus, "run")
            await bus.cancel(STAGE, "run")
            opened_again = await Producer().open(bus, "run")
            assert opened_again.cancelled
            assert (await first.send(bus, first.item(1))).cancelled
            await reader.until_at(first.acknowledged)
            assert len(openings(reader)) == 1

    async def test_14_cancel_of_a_run_that_nobody_executes_ends_it(self, backend: Backend) -> None:
        """A queued run ends at once with an error (cancelled), and does not start any more."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            await bus.open_run(queued(STAGE, "run"))
            assert await bus.cancel(STAGE, "run")
            await reader.until_ended()
            assert [event.reason for event in reader.events(StageFailed)] == ["cancelled"]
            assert (await Producer().open(bus, "run")).cancelled
            assert not await bus.cancel(STAGE, "run")
            assert not (await state(bus)).in_progress

    async def test_14_cancel_ends_the_run_when_the_last_lease_is_given_back(self, backend: Backend) -> None:
        """A cancelled run whose producers close without an end is ended by the bus, not left waiting for a retry."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            one, two = Producer(), Producer()
            await one.open(bus, "run", task="one")
            await two.open(bus, "run", task="two")
            await bus.cancel(STAGE, "run")
            await one.send(bus, release=True)
            assert (await state(bus)).in_progress
            await two.send(bus, release=True)
            await reader.until_ended()
            assert [event.reason for event in reader.events(StageFailed)] == ["cancelled"]

    async def test_14_cancel_of_a_run_whose_producer_dies(self, backend: Backend) -> None:
        """A cancelled run whose producer is dead ends as cancelled."""
        async with opened(backend, SHORT_LEASE) as bus, reading(bus) as reader:
            dead = Producer()
            await dead.write(bus, "text")
            assert dead.run is not None
            assert await bus.cancel(STAGE, dead.run)
            await reader.until_ended()
            assert [event.reason for event in reader.events(StageFailed)] == ["cancelled"]

    async def test_14_cancel_touches_no_other_run(self, backend: Backend) -> None:
        """An unknown run, a run that is over and a superseded one cannot be cancelled, and others never notice."""
        async with opened(backend, LIMITS) as bus:
            assert not await bus.cancel(STAGE, "unknown")
            old, other, new = Producer(), Producer(OTHER_STAGE), Producer()
            await old.open(bus, "old")
            await other.open(bus, "run")
            assert not await bus.cancel(STAGE, "run")
            assert await bus.cancel(STAGE, "old")
            await new.open(bus, "run")
            assert not await bus.cancel(STAGE, "old")
            for producer in (new, other):
                assert not (await producer.send(bus, producer.update())).cancelled
            await new.send(bus, new.done())
            assert not await bus.cancel(STAGE, "run")
            taken = await snapshot(bus, PROJECT)
            assert isinstance(taken.stages["stage"].slots["outcome"], StageCompleted)
            assert isinstance(taken.stages["other"].slots["status"], StageUpdated)

    async def test_14_cancel_from_many_sides_is_one_end(self, backend: Backend) -> None:
        """Concurrent cancelling of a run that nobody executes ends it once."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            await bus.open_run(queued(STAGE, "run"))
            answers = await asyncio.gather(*(bus.cancel(STAGE, "run") for _ in range(10)))
            assert answers.count(True) == 1
            await bus.open_run(queued(STAGE, "next"))
            await reader.until(lambda: openings(reader)[-1:] == ["next"])
            assert len(reader.events(StageFailed)) == 1
