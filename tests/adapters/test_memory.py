"""The memory adapter over a long task: what it keeps, for whom, and until when."""

import gc
import weakref

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits, Published, Snapshot
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic
from stagecast.entrypoints.testing.actors import CODEC, STAGE, Producer, snapshot

EVENTS = 100_000
RECONNECTS = 50
BATCH = 500


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_a_hundred_thousand_events_leave_a_bounded_log_that_ends() -> None:
    """R150: who comes back gets what came after its id and no more, the log stays bounded, and in time all is freed."""
    clock = Clock()
    bus = MemoryBus(CODEC, BusLimits(), clock=clock, monotonic=clock)
    producer = Producer()
    await producer.send(bus, producer.update())
    first = last = await _end(bus)
    for number in range(1, EVENTS // BATCH + 1):
        await producer.send(bus, *(producer.progress(n, BATCH) for n in range(BATCH)))
        if number % (EVENTS // BATCH // RECONNECTS) == 0:
            news = await _news(bus, last)
            count = EVENTS // RECONNECTS
            assert [one.position for one in news] == [Position(last.epoch, last.n + 1 + n) for n in range(count)]
            assert all(isinstance(one, Published) for one in news)
            last = Position(last.epoch, last.n + count)
    assert last == await _end(bus) == Position(first.epoch, first.n + EVENTS)
    kept = bus.limits.log_length
    assert len(bus._projects[STAGE.project].entries) == kept
    assert len(await _news(bus, Position(last.epoch, last.n - kept))) == kept
    late = await _news(bus, Position(last.epoch, last.n - kept - 1))
    assert [type(one) for one in late] == [Snapshot]
    assert isinstance(late[0], Snapshot)
    assert late[0].reset == "truncated"
    assert not bus._subscriptions

    await producer.send(bus, producer.done(""), release=True)
    ledger = weakref.ref(bus._projects[STAGE.project])
    clock.now += bus.limits.time_to_live + 1
    other = Producer(Topic("other", "stage"))
    await other.send(bus, other.update())
    gc.collect()
    assert ledger() is None
    assert list(bus._projects) == ["other"]


async def _end(bus: MemoryBus) -> Position:
    end = (await snapshot(bus)).position
    assert end is not None
    return end


async def _news(bus: MemoryBus, after: Position) -> list[Published | Snapshot]:
    """What one who comes back at `after` is delivered, up to the end of the log."""
    end = await _end(bus)
    found: list[Published | Snapshot] = []
    async with bus.subscribe(STAGE, after) as subscription:
        while not found or found[-1].position != end:
            found.append(await anext(subscription))
    return found
