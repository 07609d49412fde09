"""Delivering what was published: batches, flushes, and a bus that is away."""

import asyncio
import logging

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import (
    PublishFailed,
)
from stagecast.domain.outbox import OutboxLimits
from stagecast.domain.producing import TaskRun
from tests.domain.flaky import CODEC, TOPIC, FlakyBus, bus, idle, publishing, stage
from tests.waiting import eventually

__all__ = ["bus"]


class TestDelivering:
    """Batches, flushes, closing."""

    async def test_a_burst_goes_in_batches(self, bus: FlakyBus) -> None:
        """While one batch is on its way the next one gathers."""
        async with publishing(bus) as publisher:
            for number in range(10_000):
                publisher.publish_token(f"{number} ")
            assert await publisher.flush(10)
        assert len(bus.batches) < 10_000 / 100
        assert (await stage(bus)).text == publisher.text == "".join(f"{n} " for n in range(10_000))

    async def test_flush_waits_for_what_came_before(self, bus: FlakyBus) -> None:
        """True once everything accepted before is in the log."""
        async with publishing(bus) as publisher:
            assert await publisher.flush(5)
            publisher.publish_token("a")
            assert await publisher.flush(5)
            assert (await stage(bus)).text == "a"

    async def test_flush_tells_a_refusal_once(self, bus: FlakyBus) -> None:
        """Something that the bus refused makes the next flush False, and the one after it True."""
        async with publishing(bus) as writer, publishing(bus) as intruder:
            writer.publish_token("mine")
            assert await writer.flush(5)
            intruder.publish_progress(1, 2)
            assert await intruder.flush(5)
            intruder.publish_done()
            assert await intruder.flush(5)
            writer.publish_error("second end")
            assert not await writer.flush(5)
            assert await writer.flush(5)

    async def test_closing_delivers_first(self, bus: FlakyBus) -> None:
        """What was accepted before close() is in the log when run() has ended; the lease is given back."""
        publisher = idle(bus)
        publisher.publish_stage_update("processing")
        for number in range(1000):
            publisher.publish_token(f"{number} ")
        publisher.close()
        assert not publisher.publish_token("late")
        await asyncio.wait_for(publisher.run(), 5)
        assert (await stage(bus)).text == publisher.text
        assert bus.batches[-1].release
        async with bus.bus.subscribe(TOPIC) as subscription:
            assert not subscription.liveness.active

    async def test_closing_without_anything_says_nothing(self, bus: FlakyBus) -> None:
        """A publisher that was never used leaves no trace."""
        async with publishing(bus):
            pass
        assert bus.calls == 0

    async def test_a_lone_surrogate_does_not_wait_for_ever(self, bus: FlakyBus) -> None:
        """A flush, a close or an event sends what is left of a broken pair."""
        async with publishing(bus) as publisher:
            publisher.publish_token("a\ud83d")
            assert await publisher.flush(5)
            assert (await stage(bus)).text == "a\ufffd"
            publisher.publish_token("\ud83d")
        assert (await stage(bus)).text == "a\ufffd\ufffd"

    async def test_an_idle_publisher_gives_signs_of_life(self) -> None:
        """It renews its lease several times a lease time, and says nothing before it belongs to a run."""
        bus = FlakyBus(MemoryBus(CODEC, BusLimits(lease=0.2)))
        async with publishing(bus) as publisher:
            publisher.publish_item_completed("image", 1)
            assert await publisher.flush(5)
            calls = bus.calls
            publisher.publish_stage_update("processing")
            assert await publisher.flush(5)
            await eventually(lambda: sum(not batch.events for batch in bus.batches) >= 5)
            assert bus.calls - calls >= 6
            assert (await stage(bus)).in_progress


class TestOutages:
    """A bus that is away, or whose answers are lost."""

    async def test_events_wait_and_are_delivered_in_order(self, bus: FlakyBus) -> None:
        """Publishing goes on as if nothing was; a flush with a timeout says that it is not done."""
        async with publishing(bus) as publisher:
            publisher.publish_token("before ")
            assert await publisher.flush(5)
            bus.is_away = True
            for number in range(100):
                assert publisher.publish_token(f"{number} ")
            assert publisher.publish_done(publisher.text)
            assert not await publisher.flush(0.05)
            bus.is_away = False
            assert await publisher.flush(5)
        known = await stage(bus)
        assert known.text == "before " + "".join(f"{n} " for n in range(100))
        assert known.ended is not None

    async def test_an_outage_is_logged_once(self, bus: FlakyBus, caplog: pytest.LogCaptureFixture) -> None:
        """Not once for every attempt; its end is logged too."""
        caplog.set_level(logging.INFO, "stagecast.publisher")
        bus.is_away = True
        async with publishing(bus) as publisher:
            publisher.publish_token("text")
            await eventually(lambda: bus.calls >= 4)
            bus.is_away = False
            assert await publisher.flush(5)
        told = [message.partition(": ")[2] for message in caplog.messages]
        assert told == ["the bus is away, events wait: away", "the bus is back"]

    async def test_a_lost_answer_doubles_nothing(self, bus: FlakyBus) -> None:
        """A batch whose answer was lost is sent again as it was, and the bus skips it."""
        async with publishing(bus) as publisher:
            for number in range(20):
                bus.answers_to_lose = number % 3
                publisher.publish_token(f"{number} ")
                assert await publisher.flush(5)
            bus.answers_to_lose = 2
            publisher.publish_done()
            assert await publisher.flush(5)
        known = await stage(bus)
        assert known.text == "".join(f"{n} " for n in range(20))
        assert known.ended is not None

    async def test_a_lost_answer_opens_one_attempt(self, bus: FlakyBus) -> None:
        """The opening of a task is repeated with its nonce, and is the same attempt."""
        bus.answers_to_lose = 3
        async with publishing(bus, task=TaskRun(run="run", task="task")) as publisher:
            opened = await publisher.opened(5)
            assert opened is not None
            assert (opened.attempt, publisher.attempt, publisher.run_id) == (1, 1, "run")

    async def test_a_long_outage_collapses_the_text(self, bus: FlakyBus) -> None:
        """The buffer is bounded: its tokens become one snapshot, and nothing of the text is lost."""
        bus.is_away = True
        async with publishing(bus, limits=OutboxLimits(pending_events=50)) as publisher:
            assert publisher.publish_stage_update("processing")
            for number in range(2000):
                assert publisher.publish_token(f"{number} ")
            bus.is_away = False
            assert await publisher.flush(10)
        assert (await stage(bus)).text == "".join(f"{n} " for n in range(2000))
        assert sum(len(batch.events) for batch in bus.batches) < 400

    async def test_a_full_buffer_refuses(self, bus: FlakyBus) -> None:
        """What cannot collapse is refused at twice the limit: False, or PublishFailed where strict."""
        bus.is_away = True
        async with publishing(bus, limits=OutboxLimits(pending_events=10)) as publisher:
            accepted = [publisher.publish_item_completed("image", number) for number in range(40)]
            assert accepted == [True] * 20 + [False] * 20
            bus.is_away = False
            assert await publisher.flush(5)
            assert publisher.publish_item_completed("image", 40)
        bus.is_away = True
        strict = idle(bus, strict=True, limits=OutboxLimits(pending_events=10))
        for number in range(20):
            assert strict.publish_item_completed("image", number)
        with pytest.raises(PublishFailed, match="too many events wait"):
            strict.publish_item_completed("image", 20)

    async def test_opened_has_a_timeout(self, bus: FlakyBus) -> None:
        """Waiting for the attempt's number ends; the opening itself goes on."""
        bus.is_away = True
        async with publishing(bus, task=TaskRun(run="run", task="task")) as publisher:
            assert publisher.publish_token("text")
            assert await publisher.opened(0.05) is None
            bus.is_away = False
            opened = await publisher.opened(5)
            assert opened is not None
            assert opened.attempt == 1
            assert await publisher.flush(5)
        assert (await stage(bus)).text == "text"

    async def test_an_event_that_the_bus_refuses_for_good_costs_itself_alone(self, bus: FlakyBus) -> None:
        """A batch that can never be sent is given up and told by the flush; its tokens are in the text all the same."""
        async with publishing(bus) as publisher:
            publisher.publish_token("a")
            assert await publisher.flush(5)
            bus.bus.limits = BusLimits(event_bytes=1024)
            publisher.publish_token("b" * 2000)
            assert not await publisher.flush(5)
            publisher.publish_token("c")
            assert await publisher.flush(5)
        assert (await stage(bus)).text == "a" + "b" * 2000 + "c"
