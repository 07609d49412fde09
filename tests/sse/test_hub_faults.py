"""The hub when the bus breaks, forgets or cannot be reached."""

import asyncio
from contextlib import suppress

import pytest
from attrs import evolve

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.events import TokenEmitted
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import EdgeSettings
from stagecast.entrypoints.sse.viewer import Draining
from stagecast.entrypoints.testing.actors import Producer
from tests.sse.eventstream import types
from tests.sse.flaky import FlakyBus
from tests.sse.hubs import PROJECT, QUICK, STAGE, Clock, hub_on, sit
from tests.sse.texts import from_contents
from tests.waiting import eventually


async def test_a_broken_subscription_is_made_again(
    bus: MemoryBus, writer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    """R10, R16: viewers stay, get what was published meanwhile, each event once; the log has one line of it."""
    flaky = FlakyBus(bus)
    async with hub_on(flaky) as hub:
        seat, empty = await sit(hub), await sit(hub, Topic("q", "s"))
        await writer.write(bus, "a")
        await seat.until_type("token")
        for error in (BusUnavailable("away"), RuntimeError("a bug")):
            flaky.fail(error, times=3)
            await writer.write(bus, "b", "c")
            late = Producer(Topic("q", "s"))
            await late.write(bus, "late")
            await eventually(lambda: flaky.failures_left == 0)
            await seat.until_text("c")
            await writer.write(bus, "d")
            await seat.until_text("d")
        assert from_contents(seat.messages) == "abcdbcd"
        assert "reset" not in types(seat.messages)
        await empty.until_type("token")
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len([line for line in lines if line.startswith("p:")]) == 1


async def test_a_log_that_does_not_continue_is_taken_anew(bus: MemoryBus, writer: Producer) -> None:
    """A fold that fails on what it is delivered begins again from a snapshot, and viewers are told."""
    flaky = FlakyBus(bus)
    async with hub_on(flaky) as hub:
        seat = await sit(hub)
        await writer.write(bus, "a")
        await seat.until_type("token")
        flaky.change = lambda event: evolve(event, offset=77) if isinstance(event, TokenEmitted) else event
        await writer.write(bus, "b")
        messages = await seat.until_text("ab")
        assert messages[0]["reason"] == "truncated"
        flaky.change = None


async def test_who_has_seen_nothing_needs_no_reset(bus: MemoryBus, writer: Producer, clock: Clock) -> None:
    """When the fold begins anew, one who waits for the run after an old end is still not shown that end."""
    await writer.send(bus, writer.done("yesterday"))
    clock.now += 31
    flaky = FlakyBus(bus)
    async with hub_on(flaky) as hub:
        waiting, other = await sit(hub), await sit(hub, PROJECT)
        flaky.change = lambda event: evolve(event, offset=77) if isinstance(event, TokenEmitted) else event
        await Producer(Topic("p", "other")).write(bus, "a")
        await other.until_type("reset")
        flaky.change = None
        again = Producer(STAGE)
        await again.write(bus, "today")
        await waiting.until_text("today")
        assert types(waiting.messages) == ["connected", "reset", "token"]
        assert waiting.messages[1]["reason"] == "run"


async def test_lost_data_is_restored_by_a_living_publisher(bus: MemoryBus) -> None:
    """After an epoch viewers get a reset, then what the writer still holds, and go on."""
    async with hub_on(bus, QUICK) as hub:
        worker = Producer(STAGE)
        await worker.open(bus, "run")
        await worker.write(bus, "a", "b")
        seat = await sit(hub)
        seat.take()
        bus.lose_everything()
        await seat.until_type("reset")
        receipt = await worker.send(bus, worker.update())
        assert receipt.need == "state"
        await worker.send(bus, worker.token("abc", 0, snapshot=True))
        worker.length = 3
        await worker.write(bus, "d")
        await worker.send(bus, worker.done())
        messages = await seat.rest()
        assert from_contents(messages) == "abcd"
        assert types(messages)[-2:] == ["done", "stream_end"]
        assert "lost" not in [message.get("reason") for message in messages]


@pytest.mark.parametrize("topic", [STAGE, PROJECT])
async def test_lost_data_that_nobody_restores_ends_the_stream(
    hasty_bus: MemoryBus, writer: Producer, topic: Topic
) -> None:
    """Who waits for a run that vanished is told `lost` after a lease time, then the end; others stay."""
    async with hub_on(hasty_bus, QUICK) as hub:
        await writer.write(hasty_bus, "a")
        seat, bystander = await sit(hub, topic), await sit(hub, Topic("p", "never"))
        seat.take()
        hasty_bus.lose_everything()
        messages = await seat.rest()
        assert [message.get("reason") for message in messages] == ["epoch", "lost", None]
        assert types(messages)[-1] == "stream_end"
        assert not bystander.viewer.over


async def test_a_bus_that_cannot_be_reached_is_reported_in_time(bus: MemoryBus) -> None:
    """Nobody waits longer than the patience, and nothing is left of who waited."""
    flaky = FlakyBus(bus)
    flaky.fail(BusUnavailable("away"), times=1000)
    async with hub_on(flaky, EdgeSettings(patience=0.1)) as hub:
        with pytest.raises(BusUnavailable):
            await sit(hub)
        assert not hub.channels["p"].viewers
        flaky.fail(BusUnavailable("away"), times=0)

        async def joined() -> bool:
            with suppress(BusUnavailable):
                return types((await sit(hub)).take()) == ["connected"]
            return False

        await eventually(joined)


async def test_a_server_that_stops_does_not_keep_who_waits_for_the_bus(bus: MemoryBus) -> None:
    """It would be cut off with a 500, after which a browser does not come back."""
    flaky = FlakyBus(bus)
    flaky.fail(BusUnavailable("away"), times=1000)
    async with hub_on(flaky, EdgeSettings(patience=60)) as hub:
        joining = asyncio.ensure_future(sit(hub))
        await eventually(lambda: hub.channels and hub.channels["p"].viewers)
        hub.drain()
        with pytest.raises(Draining):
            await asyncio.wait_for(joining, 10)
        assert not hub.channels["p"].viewers
