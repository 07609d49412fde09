"""Guarantee 8, runs of publishers that know no run id: what opens and ends one, and who belongs to it."""

import asyncio

import pytest

from stagecast.domain.bus import BusLimits
from stagecast.domain.events import (
    ItemCompleted,
    RunOpened,
    StageCompleted,
    StageFailed,
    StageRefreshed,
    StageUpdated,
)

from .actors import OTHER_STAGE, STAGE, Producer, openings, reading, state
from .backend import Backend, opened
from .claims import ContractTests

LIMITS = BusLimits()
SHORT_LEASE = BusLimits(lease=0.5)
SHORT_QUEUE = BusLimits(queue_deadline=0.3, lease=0.4)


class PlainRunsContract(ContractTests):
    """Plain publishers join the stage's current run, or open the next."""

    async def test_08_runs_are_opened_by_a_token_or_a_status(self, backend: Backend) -> None:
        """A text's first token, and a status that is not final, open a run; the opening is in the log before them."""
        async with opened(backend, LIMITS) as bus:
            for topic, kind in ((STAGE, "token"), (OTHER_STAGE, "status")):
                producer = Producer(topic)
                event = producer.token("text", 0) if kind == "token" else producer.update("processing")
                async with reading(bus, topic) as reader:
                    batch = producer.batch(event)
                    receipt = producer.took(await bus.publish(batch))
                    await reader.until_at(receipt.position)
                assert receipt.run == batch.new_run
                assert [type(one.event) for one in reader.published] == [RunOpened, type(event)]
                assert reader.events(RunOpened)[0].run == receipt.run
                known = await state(bus, topic)
                assert (known.run, known.attempt, known.in_progress) == (receipt.run, 1, True)
                assert known.began == known.opened == reader.published[0].position

    async def test_08_runs_are_joined_by_plain_publishers(self, backend: Backend) -> None:
        """Several producers of one stage belong to one run, and all their progress and items count."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            producers = [Producer() for _ in range(10)]
            await producers[0].send(bus, producers[0].update())

            async def produce(number: int, producer: Producer) -> None:
                await producer.send(bus, producer.update("processing", number * 10))
                await producer.send(bus, producer.item(number), producer.progress(number + 1, 10))

            await asyncio.gather(*(produce(number, producer) for number, producer in enumerate(producers)))
            await producers[0].send(bus, producers[0].done())
            await reader.until_at(producers[0].acknowledged)
            assert len({producer.run for producer in producers}) == 1
            assert len(openings(reader)) == 1
            assert {item.sequence_number for item in reader.events(ItemCompleted)} == set(range(10))
            assert len([slot for slot in (await state(bus)).slots if slot.startswith("item:")]) == 10

    async def test_08_runs_are_not_opened_by_progress_alone(self, backend: Backend) -> None:
        """Progress, items and refreshes outside a run are delivered and open nothing."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            producer = Producer()
            receipt = await producer.send(bus, producer.progress(1, 2), producer.item(1), producer.refreshed())
            assert (receipt.applied, receipt.refused, receipt.run) == (3, 0, None)
            await reader.until_at(producer.acknowledged)
            assert len(reader.published) == 3
            known = await state(bus)
            assert (known.run, known.ended) == (None, None)
            assert set(known.slots) == {"progress", "item:image:1", "refreshed"}

    async def test_08_runs_end_once(self, backend: Backend) -> None:
        """A second end of a run is refused, whoever sends it, and not delivered."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            first, second = Producer(), Producer()
            await first.send(bus, first.update())
            await second.send(bus, second.item(1))
            await first.send(bus, first.done("text"))
            for producer, event in ((second, second.failed()), (first, first.failed()), (first, first.done("other"))):
                receipt = await producer.send(bus, event)
                assert (receipt.applied, receipt.refused, receipt.superseded) == (1, 1, False)
            marker = await second.send(bus, second.item(2))
            await reader.until_at(marker.position)
            assert len(reader.events(StageCompleted)) == 1
            assert not reader.events(StageFailed)
            outcome = (await state(bus)).slots["outcome"]
            assert isinstance(outcome, StageCompleted)
            assert outcome.full_text == "text"

    async def test_08_runs_let_late_progress_in(self, backend: Backend) -> None:
        """After the end, progress, items and statuses of the run's other producers are delivered and open nothing."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            ender, late = Producer(), Producer()
            await ender.send(bus, ender.update())
            await late.send(bus, late.item(1))
            await ender.send(bus, ender.done())
            receipt = await late.send(bus, late.item(2), late.progress(2, 2), late.update("still"), late.token("x", 0))
            assert (receipt.applied, receipt.refused, receipt.run) == (4, 1, ender.run)
            await reader.until_at(receipt.position)
            known = await state(bus)
            assert openings(reader) == [ender.run]
            assert (known.run, known.in_progress, known.text) == (ender.run, False, "")
            assert "item:image:2" in known.slots

    async def test_08_runs_end_and_the_next_is_opened_by_a_new_producer(self, backend: Backend) -> None:
        """A producer that comes after the end opens the next run, and the state begins anew."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            first, second = Producer(), Producer()
            await first.send(bus, *first.tokens("text"), first.item(1), first.progress(1, 1), first.done())
            await second.send(bus, second.update("again"))
            assert second.run not in {None, first.run}
            await reader.until_at(second.acknowledged)
            for known in (await state(bus), reader.state()):
                assert (known.run, known.text, set(known.slots), known.ended) == (second.run, "", {"status"}, None)

    async def test_08_runs_end_and_the_next_is_opened_by_who_ended_it(self, backend: Backend) -> None:
        """One publisher object can stream run after run of its stage."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            producer = Producer()
            runs = list[str | None]()
            for number in range(5):
                producer.length = 0
                await producer.send(bus, producer.update(), *producer.tokens(f"text {number}"))
                await producer.send(bus, producer.done())
                runs.append(producer.run)
                assert (await state(bus)).text == f"text {number}"
                await producer.send(bus, producer.refreshed())
            await reader.until_at(producer.acknowledged)
            assert len(set(runs)) == 5
            assert openings(reader) == runs
            assert len(reader.events(StageRefreshed)) == 5

    async def test_08_runs_one_batch_opens_one(self, backend: Backend) -> None:
        """A batch that ends the run it opened and goes on is applied up to there; the rest opens the next run."""
        async with opened(backend, LIMITS) as bus:
            producer = Producer()
            batch = producer.batch(producer.update(), producer.done("one"), producer.update("two"))
            receipt = producer.took(await bus.publish(batch))
            again = await bus.publish(batch)
            assert receipt.applied == again.applied == 2
            assert receipt.run == again.run == batch.new_run
            receipt = await producer.send(bus, producer.update("two"))
            assert receipt.run not in {None, batch.new_run}

    async def test_08_runs_of_an_end_alone(self, backend: Backend) -> None:
        """A new producer whose first event is `done` or `error` opens a run and ends it."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            for producer in (failing := Producer(), completing := Producer()):
                await producer.send(bus, producer.failed() if producer is failing else producer.done("all at once"))
                known = await state(bus)
                assert (known.run, known.ended) == (producer.run, producer.acknowledged)
            await reader.until_at(completing.acknowledged)
            assert [type(one.event) for one in reader.published] == [RunOpened, StageFailed, RunOpened, StageCompleted]

    @pytest.mark.parametrize("status", ["completed", "failed", "skipped"])
    async def test_08_runs_final_status_outside_a_run_ends_the_stage(self, backend: Backend, status: str) -> None:
        """With no run, a final status is delivered and ends the stage's stream; within one it does not."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            skipping = Producer()
            receipt = await skipping.send(bus, skipping.update(status, 100))
            assert (receipt.run, receipt.refused) == (None, 0)
            await reader.until_at(receipt.position)
            for known in (await state(bus), reader.state()):
                assert (known.run, known.ended) == (None, receipt.position)
            running = Producer()
            await running.send(bus, running.update("processing"), running.update(status))
            await reader.until_at(running.acknowledged)
            for known in (await state(bus), reader.state()):
                assert known.in_progress
            assert [update.status for update in reader.events(StageUpdated)] == [status, "processing", status]

    async def test_08_runs_refreshing_is_no_end(self, backend: Backend) -> None:
        """`stage_completed` neither opens nor ends a run."""
        async with opened(backend, LIMITS) as bus:
            producer = Producer()
            await producer.send(bus, producer.update(), producer.refreshed())
            assert (await state(bus)).in_progress
            await producer.send(bus, producer.done(), producer.refreshed())
            known = await state(bus)
            assert (known.run, known.in_progress) == (producer.run, False)
