"""Guarantees 1, 4, 5, 8, 10, 11 and 12 for who is there: what also a bus owes that keeps nothing."""

import asyncio
from collections.abc import AsyncIterator

from stagecast.domain.bus import BusLimits, Delivery, Published, Snapshot
from stagecast.domain.events import ItemCompleted, TokenEmitted
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic

from .actors import OTHER_STAGE, PROJECT, STAGE, Producer
from .backend import Backend, eventually, opened
from .claims import ContractTests, needs

LIMITS = BusLimits()


@needs()
class LiveContract(ContractTests):
    """Subscribers that are there when something is published. Nothing here asks for what was before."""

    async def test_01_live_order(self, backend: Backend) -> None:
        """Who is there is given the tokens of a producer in the order of their batches, with growing positions."""
        async with opened(backend, LIMITS) as writing, opened(backend, LIMITS) as bus, bus.subscribe(STAGE) as reader:
            producer = Producer()
            for number in range(40):
                await producer.write(writing, *(f"{number}.{n} " for n in range(5)))
            seen = await _tokens(reader, 200)
        assert [one.event.content for one in seen] == [f"{number}.{n} " for number in range(40) for n in range(5)]  # type: ignore[attr-defined]
        positions = [one.position for one in seen]
        assert positions == sorted(set(positions))

    async def test_04_live_snapshot_comes_first(self, backend: Backend) -> None:
        """The first delivery is a snapshot that is no reset; that of a project nobody has published to is empty."""
        async with opened(backend, LIMITS) as bus, bus.subscribe(PROJECT) as reader:
            first = await anext(aiter(reader))
        assert isinstance(first, Snapshot)
        assert (first.position, dict(first.stages), first.reset) == (None, {}, None)

    async def test_05_live_resume_is_refused_where_it_is_impossible(self, backend: Backend) -> None:
        """After a position that the bus does not have a snapshot with a reset is delivered, then what comes."""
        async with (
            opened(backend, LIMITS) as writing,
            opened(backend, LIMITS) as bus,
            bus.subscribe(STAGE, Position(17, 4)) as reader,
        ):
            first = await anext(aiter(reader))
            assert isinstance(first, Snapshot)
            assert first.reset == "epoch"
            await Producer().write(writing, "text")
            assert [one.event.content for one in await _tokens(reader, 1)] == ["text"]  # type: ignore[attr-defined]

    async def test_08_live_text_is_what_its_writer_wrote(self, backend: Backend) -> None:
        """Any text arrives unchanged."""
        pieces = ["# 标题\n", "\r\n\t", '"quoted" \\ ', "😀👨‍👩‍👧", "\u2028\x85", "\x00\x1f", "data: x\n\n", "e\u0301"]
        async with opened(backend, LIMITS) as writing, opened(backend, LIMITS) as bus, bus.subscribe(STAGE) as reader:
            await Producer().write(writing, *pieces)
            seen = await _tokens(reader, len(pieces))
        assert [one.event.content for one in seen] == pieces  # type: ignore[attr-defined]

    async def test_08_live_stages_are_apart(self, backend: Backend) -> None:
        """A reader of one stage is given nothing of another's, and a reader of the project is given both."""
        async with (
            opened(backend, LIMITS) as writing,
            opened(backend, LIMITS) as bus,
            bus.subscribe(OTHER_STAGE) as one,
            bus.subscribe(PROJECT) as both,
        ):
            await Producer(Topic("elsewhere", "other")).write(writing, "elsewhere")
            await Producer().write(writing, "stage")
            await Producer(OTHER_STAGE).write(writing, "other")
            assert [seen.event.stage for seen in await _tokens(one, 1)] == ["other"]
            assert {seen.event.stage for seen in await _tokens(both, 2)} == {"stage", "other"}

    async def test_10_live_closing_the_bus_ends_every_subscription(self, backend: Backend) -> None:
        """Whoever waits for a delivery is let go when the bus is closed."""
        async with opened(backend, LIMITS) as bus, bus.subscribe(STAGE) as one, bus.subscribe(PROJECT) as other:
            reading = [asyncio.ensure_future(_all(one)), asyncio.ensure_future(_all(other))]
            await asyncio.sleep(0)
            await bus.aclose()
            await eventually(lambda: all(task.done() for task in reading))
            assert not [one for task in reading for one in task.result() if isinstance(one, Published)]

    async def test_11_live_publishers_at_once(self, backend: Backend) -> None:
        """Producers on handles of their own publish at once, and who is there is given all of it."""
        async with opened(backend, LIMITS) as bus, bus.subscribe(PROJECT) as reader:

            async def produce(number: int) -> None:
                async with opened(backend, LIMITS) as own:
                    producer = Producer()
                    for n in range(20):
                        await producer.send(own, producer.item(n, f"kind{number}"))

            await asyncio.gather(*(produce(number) for number in range(5)))
            seen = [one.event for one in await _published(reader, ItemCompleted, 100)]
        for number in range(5):
            numbers = [one.sequence_number for one in seen if one.item_type == f"kind{number}"]  # type: ignore[attr-defined]
            assert numbers == list(range(20))

    async def test_12_live_capabilities_are_what_is_declared(self, backend: Backend) -> None:
        """The bus says of itself what the class of its tests says of it, and has the limits that it was given."""
        async with opened(backend, LIMITS) as bus:
            assert bus.limits == LIMITS
            assert bus.capabilities == (self.capabilities or bus.capabilities)
            receipt = await Producer().write(bus, "text")
            assert (receipt.position is not None) == bus.capabilities.resume, "a log has positions"
            async with bus.subscribe(STAGE) as reader:
                first = await anext(aiter(reader))
            assert isinstance(first, Snapshot)
            assert bool(first.stages) == bus.capabilities.resume, "a snapshot shows what was, where there is a log"


async def _tokens(reader: AsyncIterator[Delivery], count: int) -> list[Published]:
    return await _published(reader, TokenEmitted, count)


async def _published(reader: AsyncIterator[Delivery], kind: type, count: int) -> list[Published]:
    """The next events of a kind."""
    found = list[Published]()
    while len(found) < count:
        delivery = await anext(reader)
        if isinstance(delivery, Published) and isinstance(delivery.event, kind):
            found.append(delivery)
    return found


async def _all(reader: AsyncIterator[Delivery]) -> list[Delivery]:
    return [one async for one in reader]
