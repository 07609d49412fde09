"""How a viewer begins at the hub: what it is shown first, and what it is not."""

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse.hub import Hub
from stagecast.entrypoints.sse.viewer import (
    UnknownRun,
)
from stagecast.entrypoints.testing.actors import Producer, queued
from tests.sse.eventstream import types
from tests.sse.hubs import PROJECT, QUICK, STAGE, Clock, hub_on, sit
from tests.sse.texts import from_contents


async def test_connected_is_followed_by_the_position(hub: Hub, bus: MemoryBus, writer: Producer) -> None:
    """Where nothing is shown, a block that dispatches nothing tells the position; an empty project has none."""
    seat = await sit(hub)
    assert types(seat.take()) == ["connected"]
    assert len(seat.stream.blocks) == 1
    await writer.send(bus, writer.update())
    await seat.until_type("stage_update")
    other = await sit(hub, Topic("p", "other"))
    assert types(other.take()) == ["connected"]
    assert other.stream.blocks[1] == [f"id: {seat.last}"]


async def test_no_position_is_told_before_a_snapshot_is_complete(hub: Hub, bus: MemoryBus, writer: Producer) -> None:
    """A client cut off inside a snapshot must not claim to have it: only the last message has an id."""
    await writer.send(bus, writer.update(), *writer.tokens("a"), writer.progress(1, 2))
    seat = await sit(hub)
    assert types(seat.take()) == ["connected", "stage_update", "token", "progress"]
    assert [any(line.startswith("id:") for line in block) for block in seat.stream.blocks] == [False] * 3 + [True]


async def test_an_old_result_is_not_shown_to_a_fresh_viewer(
    hub: Hub, bus: MemoryBus, writer: Producer, clock: Clock
) -> None:
    """`connect, then regenerate` does not end on yesterday's result; `replay=latest` and `run` show it."""
    await writer.write(bus, "yesterday")
    await writer.send(bus, writer.done())
    clock.now += 31
    seat = await sit(hub)
    assert types(seat.take()) == ["connected"]
    for seat_of_old in (await sit(hub, latest=True), await sit(hub, run=writer.run)):
        assert types(await seat_of_old.rest()) == ["connected", "token", "done", "stream_end"]
    again = Producer(STAGE)
    await again.write(bus, "today")
    await again.send(bus, again.done())
    messages = await seat.rest()
    assert types(messages) == ["reset", "token", "done", "stream_end"]
    assert from_contents(messages) == "today"


async def test_who_waits_for_the_next_run_comes_back_waiting(bus: MemoryBus, writer: Producer, clock: Clock) -> None:
    """One that was not shown an old end is told no position at or after it: 204 would end its waiting for good."""
    await writer.write(bus, "yesterday")
    await writer.send(bus, writer.done())
    clock.now += 31
    async with hub_on(bus, QUICK) as hub:
        seat, project = await sit(hub), await sit(hub, PROJECT)
        await seat.until(lambda stream: len(stream.comments) >= 2)
        assert seat.stream.last_event_id == ""
        await project.until(lambda stream: stream.last_event_id)
        await bus.open_run(queued(STAGE, "next"))
        await seat.until_type("stage_update")
        assert seat.last > project.last


async def test_a_result_just_missed_is_shown(hub: Hub, bus: MemoryBus, writer: Producer, clock: Clock) -> None:
    """Within the grace a fresh viewer gets the finished run, and the end."""
    await writer.send(bus, writer.done("x"))
    clock.now += 29
    assert types(await (await sit(hub)).rest()) == ["connected", "done", "stream_end"]


async def test_an_unknown_run_is_refused(hub: Hub, bus: MemoryBus, writer: Producer) -> None:
    """Also one that was superseded: nobody has it any more."""
    await writer.write(bus, "a")
    superseded = writer.run
    await bus.open_run(queued(STAGE, "next"))
    for run in ("never", superseded):
        with pytest.raises(UnknownRun):
            await sit(hub, run=run)
    assert not hub.channels["p"].viewers
