"""Guarantees 2, 5, 12, 13 and 15 under faults: a backend that goes back to an older state, and one that is away."""

import asyncio
from time import monotonic

from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.events import StageFailed, StageUpdated, TokenEmitted
from stagecast.domain.producing import TaskRun

from .actors import OTHER_STAGE, PROJECT, Producer, openings, publishing, reading, shown, snapshot, state
from .backend import FlakyBackend, RewindingBackend, eventually, opened
from .claims import ContractTests, needs

LIMITS = BusLimits(lease=2.0)
SHORT_LEASE = BusLimits(lease=0.5)


@needs("resume", "rewind")
class RewindContract(ContractTests):
    """A backend that loads an older dump."""

    async def test_15_rewind_is_noticed_by_a_living_producer(self, backend: RewindingBackend) -> None:
        """A producer that has seen more than the log has begins a new epoch, and what it holds is restored."""
        async with opened(backend, LIMITS) as bus, opened(backend, LIMITS) as watching, reading(watching) as reader:
            async with publishing(bus) as publisher:
                publisher.publish_stage_update("processing")
                publisher.publish_token("before ")
                assert await publisher.flush(20)
                await backend.save()
                publisher.publish_token("lost ")
                publisher.publish_item_completed("image", 1)
                assert await publisher.flush(20)
                seen = (await snapshot(bus)).position
                await reader.until_at(seen)
                await backend.rewind()
                publisher.publish_token("after")
                publisher.publish_done("before lost after")
                assert await publisher.flush(20)
            await reader.until_ended()
            known = await state(bus)
            assert reader.text == known.text == "before lost after"
            assert shown(reader.state()) == shown(known)
            assert {"status", "item:image:1", "outcome"} == known.slots.keys()
            assert reader.resets
            assert known.ended is not None
            assert seen is not None
            assert known.ended.epoch > seen.epoch
            async with reading(bus, after=seen) as back:
                await back.until_count(1)
            assert back.resets == ["epoch"]

    async def test_15_rewind_is_noticed_in_silence(self, backend: RewindingBackend) -> None:
        """A publisher that has nothing to say notices by its renewal, and viewers are reset and shown the whole."""
        async with (
            opened(backend, LIMITS) as bus,
            opened(backend, LIMITS) as watching,
            reading(watching, PROJECT) as reader,
        ):
            async with publishing(bus) as publisher, publishing(bus, OTHER_STAGE) as other:
                publisher.publish_token("text")
                other.publish_token("other")
                assert await publisher.flush(20)
                assert await other.flush(20)
                await backend.save()
                publisher.publish_token(" and more")
                other.publish_token(" more")
                await reader.until(lambda: reader.state().text == "text and more")
                await reader.until(lambda: reader.state(OTHER_STAGE).text == "other more")
                await backend.rewind()
                await reader.until_reset()
                await reader.until(lambda: reader.state().text == "text and more")
                await reader.until(lambda: reader.state(OTHER_STAGE).text == "other more")
                publisher.publish_done()
                other.publish_done()
            await reader.until(lambda: reader.state().ended and reader.state(OTHER_STAGE).ended)
            for name, known in (await snapshot(bus, PROJECT)).stages.items():
                assert shown(reader.stages[name]) == shown(known)

    async def test_15_rewind_is_noticed_after_the_log_has_grown(self, backend: RewindingBackend) -> None:
        """A producer whose own events are gone begins a new epoch, however many events of others came since."""
        async with opened(backend, LIMITS) as bus, reading(bus, PROJECT) as reader:
            producer, other = Producer(), Producer(OTHER_STAGE)
            await producer.write(bus, "text")
            await backend.save()
            await producer.send(bus, producer.item(1))
            seen = producer.acknowledged
            await reader.until_at(seen)
            await backend.rewind()
            await other.send(bus, *(other.update() for _ in range(9)))
            assert seen is not None
            assert other.acknowledged is not None
            assert other.acknowledged > seen
            assert (await producer.send(bus)).need == "state"
            await producer.send(bus, producer.token("text", 0, snapshot=True), producer.item(1))
            await reader.until_at(producer.acknowledged)
            assert reader.resets[-1] == "epoch"
            assert (await other.send(bus)).need == "state"
            await other.send(bus, other.update())
            known = (await snapshot(bus, PROJECT)).stages
            assert known["stage"].text == "text"
            assert {"item:image:1"} == known["stage"].slots.keys()
            assert {"status"} == known["other"].slots.keys()

    async def test_15_rewind_to_before_a_run(self, backend: RewindingBackend) -> None:
        """A run that the older state does not know comes back in place of the older run it had superseded."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            old = Producer()
            await old.open(bus, "old")
            await old.write(bus, "old")
            await backend.save()
            async with publishing(bus, task=TaskRun(run="new", task="new")) as publisher:
                publisher.publish_token("new")
                await reader.until(lambda: reader.text == "new")
                await backend.rewind()
                await reader.until(lambda: reader.resets and reader.text == "new")
                assert reader.state().run == "new"
                assert (await old.send(bus, *old.tokens(" text"))).superseded

    async def test_15_rewind_does_not_bring_back_a_superseded_run(self, backend: RewindingBackend) -> None:
        """A producer of a run that was superseded before the older state was saved does not take the stage back."""
        async with opened(backend, LIMITS) as bus:
            old, new = Producer(), Producer()
            await old.open(bus, "old")
            await new.open(bus, "new")
            await new.write(bus, "new")
            await backend.save()
            await new.write(bus, " text")
            old.acknowledged = new.acknowledged
            await backend.rewind()
            assert (await old.send(bus, old.update())).superseded
            assert (await state(bus)).run == "new"

    async def test_05_rewind_and_resume(self, backend: RewindingBackend) -> None:
        """Resuming after a position that the older state has not reached is a reset, before and after it has grown."""
        async with opened(backend, LIMITS) as bus:
            producer = Producer()
            await producer.write(bus, "text")
            await backend.save()
            await producer.write(bus, *("more" for _ in range(5)))
            ahead = producer.acknowledged
            await backend.rewind()
            async with reading(bus, after=ahead) as back:
                await back.until_count(1)
            assert len(back.resets) == 1
            assert back.text == "text"
            await producer.send(bus)
            await producer.send(bus, producer.token("text", 0, snapshot=True), *(producer.update() for _ in range(9)))
            async with reading(bus, after=ahead) as back:
                await back.until_count(1)
            assert back.resets == ["epoch"]


@needs("resume", "outage")
class OutageContract(ContractTests):
    """A backend that is away for a while, with its data kept."""

    async def test_12_outage_is_told_by_its_type(self, backend: FlakyBackend) -> None:
        """Every call during an outage raises BusUnavailable within a bound, and works again after it."""
        async with opened(backend, LIMITS) as bus, opened(backend, LIMITS) as fresh:
            producer = Producer()
            await producer.write(bus, "text")
            batch = producer.batch(*producer.tokens(" more"))
            async with backend.outage(), asyncio.timeout(60):
                calls = [
                    call
                    for handle in (bus, fresh)
                    for call in (
                        handle.publish(batch),
                        snapshot(handle),
                        Producer(OTHER_STAGE).open(handle, "run"),
                        handle.cancel(producer.topic, "run"),
                    )
                ]
                answers = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(answer) for answer in answers] == [BusUnavailable] * len(calls)

            async def published() -> bool:
                try:
                    producer.took(await fresh.publish(batch))
                except BusUnavailable:
                    return False
                return True

            await eventually(published)
            assert (await state(bus)).text == "text more"

    async def test_02_outage_costs_a_reader_nothing(self, backend: FlakyBackend) -> None:
        """A reader whose connection was away sees every event, without a further one to push it."""
        async with opened(backend, LIMITS) as bus, opened(backend, LIMITS) as watching, reading(watching) as reader:
            async with publishing(bus) as publisher:
                publisher.publish_token("before ")
                await reader.until(lambda: reader.text == "before ")
                for number in range(2):
                    async with backend.outage():
                        for n in range(50):
                            publisher.publish_token(f"{number}.{n} ")
                    assert await publisher.flush(30)
                    await reader.until(lambda: reader.text == publisher.text, 30)
                publisher.publish_done()
            await reader.until_ended()
            assert not reader.resets
            offsets = [token.offset for token in reader.events(TokenEmitted)]
            assert len(offsets) == len(set(offsets)) == 101

    async def test_13_outage_is_no_death(self, backend: FlakyBackend) -> None:
        """An outage of several lease times costs no living producer its run, however many watch."""
        async with (
            opened(backend, SHORT_LEASE) as bus,
            opened(backend, SHORT_LEASE) as one,
            opened(backend, SHORT_LEASE) as two,
            reading(one) as first,
            reading(two, PROJECT) as second,
        ):
            async with publishing(bus) as publisher:
                publisher.publish_stage_update("processing")
                for reader in (first, second):
                    await reader.until_any(StageUpdated)
                began = monotonic()
                async with backend.outage():
                    await eventually(lambda: monotonic() - began > 4 * SHORT_LEASE.lease)
                publisher.publish_token("alive")
                assert await publisher.flush(30)
                publisher.publish_done("alive")
            for reader in (first, second):
                await reader.until_ended(timeout=30)
                assert not reader.events(StageFailed)
                assert len(openings(reader)) == 1
                assert reader.text == "alive"

    async def test_13_outage_does_not_save_the_dead(self, backend: FlakyBackend) -> None:
        """A producer that died in an outage ends its run within a bound after it."""
        async with (
            opened(backend, SHORT_LEASE) as bus,
            opened(backend, SHORT_LEASE) as watching,
            reading(watching) as reader,
        ):
            dead = Producer()
            await dead.write(bus, "text")
            await reader.until_at(dead.acknowledged)
            async with backend.outage():
                pass
            await reader.until_ended(timeout=30)
            assert [event.reason for event in reader.events(StageFailed)] == ["lease"]
