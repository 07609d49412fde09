"""How a publisher keeps to the rate that its bus allows: what waits is neither lost nor refused, an end never waits."""

import asyncio
import math
from collections.abc import Iterator

import attrs
import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain import producing
from stagecast.domain.bus import Batch, BusLimits, Receipt
from stagecast.domain.events import TokenEmitted
from stagecast.domain.outbox import OutboxLimits
from stagecast.domain.producing import BURST
from tests.domain.flaky import CODEC, FlakyBus, publishing, stage
from tests.waiting import eventually

AT_ONCE = OutboxLimits(linger=0.0)


@pytest.fixture
def crawling(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyBus]:
    """A bus that wants one event in a quarter of an hour; publishers look at each turn of the loop."""
    monkeypatch.setattr(producing, "LOOK", 0.0)
    with attrs.validators.disabled():
        yield FlakyBus(MemoryBus(CODEC, BusLimits(events_per_second=0.001)))


def sent(bus: FlakyBus) -> list[str]:
    """The tokens' contents, the types of others."""
    events = [event for batch in bus.batches for event in batch.events]
    return [event.content if isinstance(event, TokenEmitted) else event.type for event in events]


async def some_turns() -> None:
    for _ in range(200):
        await asyncio.sleep(0)


async def test_what_is_too_much_waits(crawling: FlakyBus) -> None:
    """Callers are told True at once; nothing goes but what may, until the end of the run takes all of it along."""
    async with publishing(crawling, limits=AT_ONCE, strict=True) as publisher:
        publisher.publish_token("a")
        await eventually(lambda: sent(crawling) == ["a"])
        for content in "bcd":
            assert publisher.publish_token(content)
            await some_turns()
        assert publisher.publish_stage_update("processing")
        assert publisher.publish_item_completed("image", 1)
        assert not await publisher.flush(0.05)
        assert sent(crawling) == ["a"]
        assert publisher.publish_done("abcd")
        assert await publisher.flush(10)
        assert sent(crawling) == ["a", "b", "c", "d", "stage_update", "item_completed", "done"]
        assert publisher.publish_token("of the next run")
        await some_turns()
        assert sent(crawling)[-1] == "done"
        publisher.publish_error("no")
        assert await publisher.flush(10)
    assert sent(crawling)[-2:] == ["of the next run", "error"]


async def test_a_publisher_that_is_closed_waits_for_nothing(crawling: FlakyBus) -> None:
    """What it has accepted goes, and the lease is given back."""
    async with publishing(crawling, limits=AT_ONCE) as publisher:
        publisher.publish_token("a")
        await eventually(lambda: sent(crawling) == ["a"])
        for content in "bcd":
            assert publisher.publish_token(content)
        await some_turns()
    assert sent(crawling) == ["a", "b", "c", "d"]
    assert crawling.batches[-1].release


async def test_what_waits_is_bounded(crawling: FlakyBus) -> None:
    """Tokens that wait collapse as in an outage, and the text is whole."""
    limits = OutboxLimits(linger=0.0, pending_events=50)
    async with publishing(crawling, limits=limits) as publisher:
        for number in range(2000):
            assert publisher.publish_token(f"{number} ")
        await some_turns()
        assert len(sent(crawling)) <= 512
        publisher.publish_done()
        assert await publisher.flush(10)
    assert (await stage(crawling)).text == "".join(f"{number} " for number in range(2000))
    assert len(sent(crawling)) < 200


class Timed(FlakyBus):
    """Notes when what came, by the loop's clock."""

    def __init__(self, rate: float) -> None:
        super().__init__(MemoryBus(CODEC, BusLimits(events_per_second=rate)))
        self.came: list[tuple[float, int]] = []

    async def publish(self, batch: Batch) -> Receipt:
        self.came.append((asyncio.get_running_loop().time(), len(batch.events)))
        return await super().publish(batch)


async def test_the_rate_is_kept() -> None:
    """Of 2,500 events 1,000 go in each second after the first burst, in their order."""
    bus, rate = Timed(1000), 1000
    async with publishing(bus, limits=AT_ONCE) as publisher:
        for number in range(2500):
            assert publisher.publish_token(f"{number} ")
        assert await publisher.flush(60)
    begun, before = bus.came[0][0], 0
    for moment, events in bus.came:
        if events:
            assert before / rate <= moment - begun + BURST + 1e-6
        before += events
    assert before == 2500
    assert (await stage(bus)).text == "".join(f"{number} " for number in range(2500))


@pytest.mark.parametrize("rate", [0, 999.9, -1, math.nan])
def test_rates_that_would_delay_signs_of_life_are_refused(rate: float) -> None:
    """A batch is at most half a second's worth; without a limit there is no waiting."""
    with pytest.raises(ValueError, match="events_per_second"):
        BusLimits(events_per_second=rate)
    assert BusLimits(events_per_second=1000).events_per_second == 1000
    assert BusLimits().events_per_second == math.inf
