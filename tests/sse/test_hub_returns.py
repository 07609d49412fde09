"""How a viewer comes back to the hub: exactly the rest, or a reset, or nothing more."""

import asyncio

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.domain.positions import Position
from stagecast.entrypoints.sse.hub import Hub
from stagecast.entrypoints.sse.viewer import (
    Finished,
)
from stagecast.entrypoints.testing.actors import Producer, queued
from stagecast.entrypoints.wiring import CODEC
from tests.sse.eventstream import types
from tests.sse.flaky import FlakyBus
from tests.sse.hubs import PROJECT, QUICK, STAGE, hub_on, sit
from tests.waiting import eventually


async def test_events_of_before_the_hub_are_read_from_the_log(bus: MemoryBus, writer: Producer) -> None:
    """R39, R34: ids survive a restart of the server: a hub that has seen none of it serves the rest from the bus."""
    async with hub_on(bus) as hub:
        seat = await sit(hub)
        await writer.send(bus, writer.update(), *writer.tokens(*"abcdef"))
        await seat.until(lambda stream: len(stream.events) == 8)
    ids = [event.own_id for event in seat.stream.events]
    await writer.write(bus, *"gh")
    async with hub_on(bus) as hub:
        after = Position.parse(str(ids[4]))
        whole = await sit(hub, after=after)
        assert [(m["content"], m["full_text"]) for m in whole.take()[1:]] == [("defgh", "abcdefgh")]
        delta = await sit(hub, after=after, delta=True)
        assert [message["content"] for message in delta.take()[1:]] == list("defgh")
        assert [event.own_id for event in delta.stream.events[1:4]] == ids[5:]
        await writer.write(bus, "i")
        assert [message["content"] for message in await whole.until_type("token")] == ["i"]
        assert [message["content"] for message in await delta.until_type("token")] == ["i"]


async def test_nothing_is_lost_or_repeated_at_the_seam(bus: MemoryBus, writer: Producer) -> None:
    """R23: viewers who come back to a cold hub while a publisher runs get each token once, in both modes."""
    count = 2_000

    async def publish() -> None:
        for number in range(0, count, 4):
            await writer.write(bus, *[f"{n};" for n in range(number, number + 4)])
            await asyncio.sleep(0)
        await writer.send(bus, writer.done())

    async with hub_on(bus) as first:
        seat = await sit(first)
        await writer.write(bus, "begin;")
        await seat.until_type("token")
    start, text = seat.last, "begin;" + "".join(f"{n};" for n in range(count))
    publishing = asyncio.create_task(publish())
    seats = []
    for turn in range(12):
        async with hub_on(bus) as cold:
            seats = [await sit(cold, after=start, delta=bool(turn % 2)) for _ in range(3)]
            for seat in seats:
                await seat.until_type("token")
                messages = [message for message in seat.messages if message["type"] == "token"]
                contents = "".join(message["content"] for message in messages)
                assert text.startswith("begin;" + contents)
                assert all(text.startswith(m["full_text"]) for m in messages if not turn % 2)
    async with hub_on(bus) as last:
        for delta in (False, True):
            messages = await (await sit(last, after=start, delta=delta)).rest()
            assert "begin;" + "".join(m["content"] for m in messages if m["type"] == "token") == text
            assert types(messages)[-2:] == ["done", "stream_end"]
    await publishing


async def test_an_event_between_reading_and_following_comes_once(bus: MemoryBus, writer: Producer) -> None:
    """R23: published exactly when the log has been read and the hub has moved on, it is in the hub's part."""
    flaky = FlakyBus(bus)
    await writer.write(bus, *"abc")
    async with hub_on(flaky) as hub:
        seat = await sit(hub)
        seat.take()
        start = Position(seat.last.epoch, 1)

        async def inject() -> None:
            await writer.write(bus, "X")
            await seat.until_text("X")

        flaky.before_exit = inject
        for delta in (False, True):
            flaky.exits = 0
            back = await sit(hub, after=start, delta=delta)
            assert flaky.exits == 1
            flaky.before_exit = None
            assert "".join(message["content"] for message in back.take()[1:]) == "bcX"


async def test_a_viewer_may_be_ahead_of_this_process(bus: MemoryBus, writer: Producer) -> None:
    """Another server was faster: nothing up to the viewer's position is repeated, what follows comes."""
    flaky = FlakyBus(bus)
    async with hub_on(flaky) as hub:
        seat = await sit(hub)
        await writer.write(bus, "a")
        await seat.until_type("token")
        flaky.hold()
        await writer.write(bus, "b", "c")
        joining = asyncio.create_task(sit(hub, after=Position(seat.last.epoch, seat.last.n + 2)))
        await eventually(lambda: len(hub.channels["p"].viewers) == 2)
        flaky.let_go()
        back = await joining
        assert types(back.take()) == ["connected"]
        await writer.write(bus, "d")
        assert [message["content"] for message in await back.until_type("token")] == ["d"]


async def test_a_position_that_never_was_is_reset(
    hub: Hub, bus: MemoryBus, writer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that was rolled back behind the viewer is told, and the state as it is now follows."""
    monkeypatch.setattr("stagecast.entrypoints.sse.admission.CATCH_UP", 0.05)
    await writer.write(bus, "a")
    seat = await sit(hub)
    seat.take()
    for after in (Position(seat.last.epoch, 999), Position(seat.last.epoch + 1, 0), Position(1, 0)):
        back = await sit(hub, after=after)
        messages = back.take()
        assert types(messages) == ["connected", "reset", "token"]
        assert messages[1]["reason"] == "epoch"


async def test_a_position_that_was_trimmed_is_reset(writer: Producer) -> None:
    """R37: what the log no longer has is announced, and the snapshot follows."""
    bus = MemoryBus(CODEC, BusLimits(log_length=16))
    await writer.write(bus, *[f"{n};" for n in range(50)])
    async with hub_on(bus) as hub:
        seat = await sit(hub)
        seat.take()
        back = await sit(hub, after=Position(seat.last.epoch, 5))
        messages = back.take()
        assert [message.get("reason") for message in messages] == [None, "truncated", None]
        assert messages[2]["full_text"] == "".join(f"{n};" for n in range(50))


async def test_who_has_seen_the_end_is_finished(hub: Hub, bus: MemoryBus, writer: Producer) -> None:
    """At or after the terminal position, until a newer run begins."""
    seat = await sit(hub)
    await writer.write(bus, "a")
    await writer.send(bus, writer.done(), writer.refreshed())
    await seat.rest()
    for after in (seat.last, Position(seat.last.epoch, seat.last.n + 1)):
        with pytest.raises(Finished):
            await sit(hub, after=after)
    assert types((await sit(hub, PROJECT, after=seat.last)).take()) == ["connected", "stage_completed"]
    witness = await sit(hub, PROJECT)
    await bus.open_run(queued(STAGE, "next"))
    await witness.until_type("stage_update")
    assert types((await sit(hub, after=seat.last)).take()) == ["connected", "reset", "stage_update"]


async def test_a_finished_project_that_expired_is_lost(hasty_bus: MemoryBus, writer: Producer) -> None:
    """R39: who comes back to what is no longer there gets an answer that ends, not an endless wait."""
    async with hub_on(hasty_bus, QUICK) as hub:
        seat = await sit(hub)
        await writer.send(hasty_bus, *writer.tokens("a"), writer.done())
        await seat.rest()
        hasty_bus.lose_everything()
    async with hub_on(hasty_bus, QUICK) as hub:
        back = await sit(hub, after=seat.last)
        messages = await back.rest()
        assert types(messages) == ["connected", "reset", "reset", "stream_end"]
        assert [message.get("reason") for message in messages[1:3]] == ["epoch", "lost"]
