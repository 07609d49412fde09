"""Guarantees 9, 10 and 12: what subscriptions cost, how they end, and how a bus fails."""

import asyncio
import gc
import weakref
from contextlib import AsyncExitStack

import pytest

from stagecast.domain.bus import BusLimits, Snapshot
from stagecast.domain.errors import BusUnavailable, EventTooLarge, InvalidEvent, RunSuperseded
from stagecast.domain.events import CustomEvent, StageUpdated
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic

from .actors import PROJECT, STAGE, Producer, queued, reading, snapshot, state
from .backend import PATIENCE, Backend, eventually, opened
from .claims import ContractTests, needs

LIMITS = BusLimits()
SPARE = 3
"""Connections more than one subscription needs that a handle may open lazily."""
SMALL_EVENTS = BusLimits(event_bytes=2048)


class ClosingContract(ContractTests):
    """Subscriptions, many of them, and their ends."""

    @needs()
    async def test_09_fan_out_over_a_constant_number_of_connections(self, backend: Backend) -> None:
        """Three hundred subscriptions of thirty projects use as many connections as one, and all are served."""
        async with opened(backend, LIMITS) as writing, opened(backend, LIMITS) as bus:
            topics = [Topic(f"project{number % 30}", "stage") for number in range(300)]
            producers = [Producer(topic) for topic in topics[:30]]
            for producer in producers:
                await producer.write(writing, "begin ")
            async with reading(bus, topics[0]) as reader:
                await reader.until_count(1)
                alone = await backend.connections()
            async with AsyncExitStack() as stack:
                subscriptions = [await stack.enter_async_context(bus.subscribe(topic)) for topic in topics]
                for subscription in subscriptions:
                    assert isinstance(await anext(aiter(subscription)), Snapshot)
                assert await backend.connections() <= alone + SPARE
                for producer in producers:
                    await producer.write(writing, "end")
                async with asyncio.timeout(30):
                    last = await asyncio.gather(*(anext(aiter(subscription)) for subscription in subscriptions))
                assert {one.event.content for one in last} == {"end"}  # type: ignore[union-attr]
                assert await backend.connections() <= alone + SPARE

    @needs()
    async def test_10_closing_a_subscription_frees_it(self, backend: Backend) -> None:
        """A subscription that is left is freed at once; hundreds of comings and goings leave nothing behind."""
        async with opened(backend, LIMITS) as bus:
            producer = Producer()
            await producer.write(bus, "text")
            gone = list[weakref.ref[object]]()
            counts = list[int]()
            for number in range(200):
                async with bus.subscribe(STAGE if number % 2 else Topic(f"p{number}")) as subscription:
                    await anext(aiter(subscription))
                    gone.append(weakref.ref(subscription))
                del subscription
                if number in {50, 199}:
                    counts.append(await backend.connections())
            await producer.write(bus, " more")

            def all_freed() -> bool:
                gc.collect()
                return not any(one() for one in gone)

            await eventually(all_freed)
            assert counts[1] <= counts[0] + SPARE

    async def test_10_closing_one_subscription_leaves_the_others(self, backend: Backend) -> None:
        """Readers of one topic come and go independently."""
        async with opened(backend, LIMITS) as bus, reading(bus) as staying:
            producer = Producer()
            for number in range(20):
                async with reading(bus) as passing:
                    await producer.send(bus, producer.update(f"step{number}"))
                    await passing.until_at(producer.acknowledged)
            await staying.until_at(producer.acknowledged)
            assert len(staying.events(StageUpdated)) == 20

    async def test_10_closing_by_cancelling_a_reader(self, backend: Backend) -> None:
        """A reader that is cancelled in its wait leaves at once, and the subscription can be read on by another."""
        async with opened(backend, LIMITS) as bus, bus.subscribe(STAGE) as subscription:
            await anext(aiter(subscription))
            for number in range(30):
                waiting = asyncio.ensure_future(anext(aiter(subscription)))
                for _ in range(number % 4):
                    await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait({waiting}, timeout=PATIENCE.seconds)
                assert waiting.cancelled(), f"cancelled after {number % 4} steps and still waiting"
            producer = Producer()
            await producer.write(bus, "a", "b")
            async with asyncio.timeout(20):
                seen = [await anext(aiter(subscription)) for _ in range(3)]
            assert [one.position.n for one in seen] == [0, 1, 2]  # type: ignore[union-attr]

    async def test_10_closing_the_bus_ends_every_subscription(self, backend: Backend) -> None:
        """Closing ends readers that wait, and those that have something to read, and is idempotent."""
        async with opened(backend, LIMITS) as bus:
            producer = Producer()
            async with reading(bus) as waiting, reading(bus, PROJECT) as another, bus.subscribe(STAGE) as unread:
                await producer.send(bus, producer.update())
                await waiting.until_at(producer.acknowledged)
                await bus.aclose()
                await waiting.until(lambda: waiting.has_ended and another.has_ended)
                async with asyncio.timeout(20):
                    assert len([one async for one in unread]) <= 3
            assert not [*waiting.resets, *another.resets]
            await bus.aclose()

    @needs()
    async def test_12_failure_of_a_closed_bus(self, backend: Backend) -> None:
        """A closed bus answers every call with BusUnavailable."""
        async with opened(backend, LIMITS) as bus:
            producer = Producer()
            await producer.open(bus, "run")
            await bus.aclose()
            with pytest.raises(BusUnavailable):
                await producer.send(bus, producer.update())
            with pytest.raises(BusUnavailable):
                await Producer().open(bus, "run")
            with pytest.raises(BusUnavailable):
                await bus.cancel(STAGE, "run")
            with pytest.raises(BusUnavailable):
                async with bus.subscribe(STAGE):
                    pass

    async def test_12_failure_of_an_event_that_is_too_large(self, backend: Backend) -> None:
        """EventTooLarge, and nothing of the batch is published; the producer goes on."""
        async with opened(backend, SMALL_EVENTS) as bus, reading(bus) as reader:
            producer = Producer()
            await producer.write(bus, "text")
            for large in (producer.token("x" * 3000, 4), producer.token('"' * 1100, 4), producer.done("x" * 2100)):
                with pytest.raises(EventTooLarge):
                    await producer.send(bus, producer.item(1), large)
            await producer.write(bus, " more")
            await producer.send(bus, producer.done())
            await reader.until_at(producer.acknowledged)
            known = await state(bus)
            assert (known.text, set(known.slots)) == ("text more", {"outcome"})

    async def test_12_failure_is_none_for_a_large_text(self, backend: Backend) -> None:
        """A whole text may be longer than the largest event: in a snapshot token, in the state, and behind `done`."""
        async with opened(backend, SMALL_EVENTS) as bus, reading(bus) as reader:
            producer = Producer()
            text = "long text " * 1000
            await producer.send(bus, producer.token(text, 0, snapshot=True), producer.done())
            await reader.until_at(producer.acknowledged)
            assert reader.text == (await state(bus)).text == text

    @needs()
    async def test_12_failure_of_a_value_that_is_no_json(self, backend: Backend) -> None:
        """InvalidEvent, and nothing is published."""
        async with opened(backend, LIMITS) as bus:
            producer = Producer()
            broken = CustomEvent(project="project", stage="stage", timestamp=0.0, message={"value": object()})  # type: ignore[dict-item]
            with pytest.raises(InvalidEvent):
                await producer.send(bus, producer.update(), broken)
            assert (await snapshot(bus)).position is None

    async def test_12_failure_leaves_the_bus_usable(self, backend: Backend) -> None:
        """After a refused opening the same bus goes on."""
        async with opened(backend, LIMITS) as bus:
            await Producer().open(bus, "old")
            await bus.open_run(queued(STAGE, "new"))
            for _ in range(3):
                with pytest.raises(RunSuperseded):
                    await Producer().open(bus, "old")
            assert (await Producer().open(bus, "new")).attempt == 1

    async def test_12_resume_is_what_the_bus_declares(self, backend: Backend) -> None:
        """A bus that declares `resume` keeps a log: its positions are told, and can be written and read."""
        async with opened(backend, LIMITS) as bus:
            assert bus.capabilities.resume
            producer = Producer()
            receipt = await producer.send(bus, producer.update())
            assert isinstance(receipt.position, Position)
            assert Position.parse(str(receipt.position)) == receipt.position

    async def test_12_persistence_is_what_the_bus_declares(self, backend: Backend) -> None:
        """Where `persistent` is declared the log outlives the bus object; where not, it goes with it."""
        async with opened(backend, LIMITS) as bus:
            producer = Producer()
            await producer.write(bus, "text")
            is_persistent = bus.capabilities.persistent
            await bus.aclose()
        async with opened(backend, LIMITS) as bus:
            assert (await state(bus)).text == ("text" if is_persistent else "")
