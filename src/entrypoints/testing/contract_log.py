"""Guarantees 1 to 4 and 6: order, no gap, no duplicate, snapshot then tail, and what a late joiner costs."""

import asyncio

from stagecast.domain.bus import BusLimits, Published, Snapshot
from stagecast.domain.events import ItemCompleted, ProgressReported, StageCompleted, StageUpdated

from .actors import OTHER_STAGE, PROJECT, STAGE, Producer, reading, shown, snapshot, state
from .backend import Backend, opened
from .claims import ContractTests

LIMITS = BusLimits()
SHORT_LOG = BusLimits(log_length=64)
FAR_BEHIND = 3_000
"""Events: far more than a short log keeps, however roughly a transport trims."""


class LogContract(ContractTests):
    """The log of a project, as one or several subscribers read it."""

    async def test_01_order_of_several_producers_in_several_stages(self, backend: Backend) -> None:
        """Every subscriber sees the events of concurrent producers in one order, each producer's in its own."""
        producers = [Producer(topic) for topic in (STAGE, STAGE, STAGE, OTHER_STAGE, OTHER_STAGE)]
        rounds, size = 20, 7
        async with opened(backend, LIMITS) as writing, opened(backend, LIMITS) as one, opened(backend, LIMITS) as two:
            for producer in producers:
                await producer.send(writing, producer.update("processing"))
            async with reading(one, PROJECT) as first, reading(two, PROJECT) as second, reading(two) as of_stage:

                async def produce(number: int, producer: Producer) -> None:
                    for base in range(0, rounds * size, size):
                        await producer.send(
                            writing, *(producer.item(n, f"p{number}") for n in range(base, base + size))
                        )

                await asyncio.gather(*(produce(number, producer) for number, producer in enumerate(producers)))
                end = (await snapshot(writing, PROJECT)).position
                for reader in (first, second):
                    await reader.until_at(end)
                stage_end = (await state(writing)).slots
                await of_stage.until(lambda: of_stage.state().slots == stage_end)
        assert first.published == second.published
        assert len(first.published) == len(producers) * rounds * size
        assert of_stage.published == [one for one in first.published if one.event.stage == "stage"]
        for number in range(len(producers)):
            numbers = [item.sequence_number for item in first.events(ItemCompleted) if item.item_type == f"p{number}"]
            assert numbers == list(range(rounds * size))

    async def test_01_order_of_a_batch_is_contiguous(self, backend: Backend) -> None:
        """Positions count the events of one life of a log from 0 without a hole, and a batch is not torn apart."""
        async with opened(backend, LIMITS) as bus, reading(bus, PROJECT) as reader:
            producers = [Producer(), Producer(OTHER_STAGE)]
            await asyncio.gather(
                *(producer.send(bus, *(producer.update(f"step{n}") for n in range(10))) for producer in producers)
            )
            await reader.until_count(22)
        assert [one.position.n for one in reader.published] == list(range(22))
        stages = [one.event.stage for one in reader.published]
        assert stages == sorted(stages, key=[stages[0], *{"stage", "other"} - {stages[0]}].index)

    async def test_02_no_gap_between_entry_and_first_read(self, backend: Backend) -> None:
        """On entry the subscription stands: what is published before its first read is delivered."""
        async with opened(backend, LIMITS) as writing, opened(backend, LIMITS) as bus:
            producer = Producer()
            async with bus.subscribe(STAGE) as subscription:
                await producer.send(writing, producer.update("first"))
                seen = list[str]()
                async for delivery in subscription:
                    if isinstance(delivery, Snapshot):
                        assert delivery.position is None
                    elif isinstance(delivery.event, StageUpdated):
                        seen.append(delivery.event.status)
                        break
        assert seen == ["first"]

    async def test_02_no_gap_for_a_slow_reader(self, backend: Backend) -> None:
        """A reader that pauses while thousands of events pass is caught up from the log, without a reset."""
        async with opened(backend, LIMITS) as writing, opened(backend, LIMITS) as bus:
            producer = Producer()
            await producer.write(writing, "a")
            async with bus.subscribe(STAGE) as subscription:
                assert isinstance(await anext(aiter(subscription)), Snapshot)
                for _ in range(FAR_BEHIND // 100):
                    await producer.write(writing, *("b" * 100))
                offsets = list[int]()
                async for delivery in subscription:
                    assert isinstance(delivery, Published)
                    offsets.append(delivery.event.offset)  # type: ignore[attr-defined]
                    if len(offsets) == FAR_BEHIND:
                        break
        assert offsets == list(range(1, FAR_BEHIND + 1))

    async def test_02_no_gap_for_a_reader_beyond_the_log(self, backend: Backend) -> None:
        """A reader farther behind than the log reaches gets a reset with the whole state, and then the tail."""
        async with opened(backend, SHORT_LOG) as writing, opened(backend, SHORT_LOG) as bus:
            producer = Producer()
            await producer.write(writing, "a")
            async with bus.subscribe(PROJECT) as subscription:
                folded = dict((await snapshot(bus, PROJECT)).stages)
                seen = [await anext(aiter(subscription))]
                for _ in range(FAR_BEHIND // 50):
                    await producer.write(writing, *("b" * 50))
                await producer.send(writing, producer.done())
                end = producer.acknowledged
                while seen[-1].position != end:
                    delivery = await anext(aiter(subscription))
                    if isinstance(delivery, Snapshot):
                        assert delivery.reset == "truncated"
                        folded = dict(delivery.stages)
                    else:
                        folded["stage"].apply(delivery.position, delivery.event)
                    seen.append(delivery)
            assert any(isinstance(delivery, Snapshot) for delivery in seen[1:])
            assert len(seen) < FAR_BEHIND
            assert folded["stage"].text == "a" + "b" * FAR_BEHIND
            assert shown(folded["stage"]) == shown(await state(writing))

    async def test_02_no_gap_where_the_last_message_comes_before_a_silence(self, backend: Backend) -> None:
        """The last message before a silence arrives without any other to push it, again and again."""
        async with opened(backend, LIMITS) as writing, opened(backend, LIMITS) as bus, reading(bus) as reader:
            producer = Producer()
            for number in range(1, 41):
                await producer.send(writing, producer.update(f"step{number}"))
                await reader.until_at(producer.acknowledged)
        assert [update.status for update in reader.events(StageUpdated)] == [f"step{n}" for n in range(1, 41)]

    async def test_02_no_gap_with_another_stage_in_between(self, backend: Backend) -> None:
        """A reader of one stage sees all of it, and nothing of the stages around it."""
        async with opened(backend, LIMITS) as writing, opened(backend, LIMITS) as bus, reading(bus) as reader:
            producer, other = Producer(), Producer(OTHER_STAGE)
            for number in range(100):
                await other.send(writing, *(other.update(f"other{number}") for _ in range(number % 5 + 1)))
                await producer.write(writing, f"{number} ")
            await reader.until_at(producer.acknowledged)
        assert reader.text == "".join(f"{number} " for number in range(100))
        assert not reader.resets

    async def test_03_no_duplicate_of_a_whole_batch(self, backend: Backend) -> None:
        """A batch that is sent again is acknowledged and not appended again."""
        async with opened(backend, LIMITS) as bus, opened(backend, LIMITS) as again, reading(bus, PROJECT) as reader:
            producer = Producer()
            batch = producer.batch(producer.update(), *producer.tokens("a", "b"))
            first = await bus.publish(batch)
            second = await again.publish(batch)
            assert first.applied == second.applied == 3
            assert (second.position, second.run, second.refused) == (first.position, first.run, 0)
            producer.took(second)
            await producer.write(bus, "c")
            await reader.until_at(producer.acknowledged)
        assert reader.contents() == ["a", "b", "c"]
        assert reader.published[-1].position.n == 4

    async def test_03_no_duplicate_of_a_part_of_a_batch(self, backend: Backend) -> None:
        """Of a batch that overlaps with what the log has, only the new rest is appended."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            producer = Producer()
            events = producer.tokens(*"abcdef")
            await bus.publish(producer.batch(*events[:4]))
            receipt = producer.took(await bus.publish(producer.batch(*events)))
            assert receipt.applied == 6
            await reader.until_at(producer.acknowledged)
        assert "".join(reader.contents()) == "abcdef"

    async def test_03_no_duplicate_of_concurrent_retries(self, backend: Backend) -> None:
        """One batch sent by several connections at once is appended once."""
        async with opened(backend, LIMITS) as bus, opened(backend, LIMITS) as again, reading(bus) as reader:
            producer = Producer()
            batch = producer.batch(*producer.tokens(*"abc"))
            receipts = await asyncio.gather(*(handle.publish(batch) for handle in (bus, again) * 5))
            assert {receipt.applied for receipt in receipts} == {3}
            assert len({receipt.run for receipt in receipts}) == 1
            await reader.until_at(receipts[0].position)
            assert (await state(bus)).text == "abc"
        assert "".join(reader.contents()) == "abc"

    async def test_03_no_duplicate_a_retried_done_is_acknowledged(self, backend: Backend) -> None:
        """A `done` that was applied answers success when it is sent again, also after a newer run has begun."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            producer = Producer()
            await producer.write(bus, "text")
            batch = producer.batch(producer.done())
            first = await bus.publish(batch)
            again = await bus.publish(batch)
            newer = Producer()
            await newer.write(bus, "newer")
            late = await bus.publish(batch)
            for receipt in (first, again, late):
                assert (receipt.applied, receipt.refused, receipt.superseded, receipt.need) == (1, 0, False, None)
            assert first.run == again.run == late.run
            await reader.until_at(newer.acknowledged)
        assert len(reader.events(StageCompleted)) == 1
        assert reader.text == "newer"

    async def test_03_no_duplicate_is_counted_by_producer(self, backend: Backend) -> None:
        """Producers count on their own: equal sequence numbers of two of them are no duplicates."""
        async with opened(backend, LIMITS) as bus:
            producers = [Producer() for _ in range(5)]
            for number, producer in enumerate(producers):
                receipt = await producer.send(bus, producer.item(number))
                assert receipt.applied == 1
            assert len((await state(bus)).slots) == 5

    async def test_04_snapshot_of_an_unknown_project(self, backend: Backend) -> None:
        """A project nobody has published to has no position and no stages, and its first event follows."""
        async with opened(backend, LIMITS) as bus, reading(bus, PROJECT) as reader:
            await reader.until_count(1)
            producer = Producer()
            await producer.send(bus, producer.update())
            await reader.until_at(producer.acknowledged)
        first = reader.snapshots[0]
        assert (first.position, dict(first.stages), first.reset) == (None, {}, None)
        assert reader.published[0].position.n == 0

    async def test_04_snapshot_then_tail(self, backend: Backend) -> None:
        """The snapshot is the fold of all events up to its position, and the tail begins right after it."""
        async with opened(backend, LIMITS) as bus, reading(bus, PROJECT) as early:
            producer, other = Producer(), Producer(OTHER_STAGE)
            await producer.send(bus, producer.update("processing", 0), *producer.tokens("文", "😀", "text"))
            await producer.send(
                bus, producer.progress(1, 4), producer.item(1), producer.item(2), producer.progress(2, 4)
            )
            await other.send(bus, other.update(), other.refreshed(), other.failed())
            async with reading(bus, PROJECT) as late, reading(bus, OTHER_STAGE) as of_other:
                await early.until_at(other.acknowledged)
                await late.until_count(1)
                taken = late.snapshots[0]
                assert taken.position == early.position == other.acknowledged
                assert taken.stages.keys() == {"stage", "other"}
                for name, folded in early.stages.items():
                    assert shown(taken.stages[name]) == shown(folded)
                await producer.send(bus, producer.done())
                await late.until_at(producer.acknowledged)
                assert taken.position is not None
                assert late.published[0].position.follows(taken.position)
            assert of_other.snapshots[0].stages.keys() == {"other"}
            assert not of_other.published
        assert taken.stages["stage"].text == "文😀text"
        assert taken.stages["stage"].length == 7
        progress = taken.stages["stage"].slots["progress"]
        assert isinstance(progress, ProgressReported)
        assert progress.current == 2

    async def test_04_snapshot_tells_the_time_of_an_end(self, backend: Backend) -> None:
        """A finished stage has its terminal position, and the time of its end by the clock that snapshots show."""
        async with opened(backend, LIMITS) as bus:
            producer = Producer()
            before = (await snapshot(bus)).time
            await producer.send(bus, producer.update(), producer.done("text"))
            taken = await snapshot(bus)
            ended = taken.stages["stage"]
            assert ended.ended == taken.position == producer.acknowledged
            assert ended.ended_at is not None
            assert before <= ended.ended_at <= taken.time

    async def test_04_snapshot_while_events_pour_in(self, backend: Backend) -> None:
        """Whenever a reader comes, its snapshot and its tail make the same whole."""
        async with opened(backend, LIMITS) as writing, opened(backend, LIMITS) as bus:
            producer = Producer()
            await producer.write(writing, "begin ")

            async def produce() -> None:
                for number in range(300):
                    await producer.write(writing, *f"{number} ")
                    await asyncio.sleep(0)
                await producer.send(writing, producer.done())

            async def join() -> str:
                async with reading(bus) as reader:
                    await reader.until_ended()
                return reader.text

            producing = asyncio.create_task(produce())
            joining = list[asyncio.Task[str]]()
            while not producing.done() and len(joining) < 60:
                joining.append(asyncio.create_task(join()))
                for _ in range(12):
                    await asyncio.sleep(0)
            texts = set(await asyncio.gather(*joining))
            await producing
        assert texts == {"begin " + "".join(f"{number} " for number in range(300))}

    async def test_06_late_joiner_costs_one_snapshot(self, backend: Backend) -> None:
        """After 20,000 tokens a late joiner gets one delivery with the text, and then the next event."""
        tokens = 20_000
        async with opened(backend, LIMITS) as writing, opened(backend, LIMITS) as bus:
            producer = Producer()
            for base in range(0, tokens, 500):
                await producer.write(writing, *(f"{n} " for n in range(base, base + 500)))
            async with reading(bus) as reader:
                await producer.send(writing, producer.update("marker"))
                await reader.until_at(producer.acknowledged)
        assert len(reader.deliveries) == 2
        assert reader.text == "".join(f"{n} " for n in range(tokens))
