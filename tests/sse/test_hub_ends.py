"""Heartbeats, and how streams end: idle, expired, drained; limits of connections."""

import weakref

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import EdgeSettings
from stagecast.entrypoints.sse.hub import Hub
from stagecast.entrypoints.sse.viewer import (
    Draining,
    TooManyViewers,
)
from stagecast.entrypoints.testing.actors import Producer, queued
from stagecast.entrypoints.wiring import CODEC
from tests.sse.eventstream import types
from tests.sse.hubs import PROJECT, QUICK, Clock, hub_on, sit
from tests.waiting import eventually


async def test_heartbeats_tell_the_position_when_it_has_moved(bus: MemoryBus, writer: Producer) -> None:
    """A comment keeps the connection; an id alone follows where other stages have moved the project's position."""
    async with hub_on(bus, QUICK) as hub:
        seat, busy = await sit(hub, Topic("p", "quiet")), await sit(hub)
        await seat.until(lambda stream: len(stream.comments) >= 2)
        assert seat.stream.last_event_id == ""
        await writer.write(bus, "a")
        await busy.until_type("token")
        await seat.until(lambda stream: stream.last_event_id)
        assert seat.last == busy.last
        told = len([block for block in seat.stream.blocks if block[0].startswith("id:")])
        heard = len(seat.stream.comments)
        await seat.until(lambda stream: len(stream.comments) >= heard + 3)
        assert len([block for block in seat.stream.blocks if block[0].startswith("id:")]) == told
        assert types(seat.messages) == ["connected"]


async def test_an_idle_stream_ends(bus: MemoryBus, writer: Producer) -> None:
    """Without an event for the limit: `stream_end`, without an id; a stage and a project have limits of their own."""
    async with hub_on(bus, EdgeSettings(stage_idle=0.1, project_idle=3600)) as hub:
        seat, project = await sit(hub), await sit(hub, PROJECT)
        messages = await seat.rest()
        assert types(messages) == ["connected", "stream_end"]
        assert seat.stream.events[-1].own_id is None
        assert types(project.take()) == ["connected"]
        assert not project.viewer.over


async def test_what_waits_or_is_leased_is_never_idle(bus: MemoryBus) -> None:
    """A queued run, one that will be retried, and one whose writer lives keep their viewers."""
    slow = MemoryBus(CODEC, BusLimits(lease=3600))
    async with hub_on(slow, EdgeSettings(stage_idle=0.05, project_idle=0.05)) as hub:
        await slow.open_run(queued(Topic("p", "queued"), "r"))
        leased, retrying = Producer(Topic("p", "leased")), Producer(Topic("p", "retrying"))
        await leased.write(slow, "a")
        await retrying.send(slow, retrying.update("retrying"), release=True)
        seats = [await sit(hub, Topic("p", stage)) for stage in ("queued", "leased", "retrying")]
        idle, project = await sit(hub, Topic("p", "idle")), await sit(hub, PROJECT)
        await idle.rest()
        other = await sit(hub, Topic("p", "idle"))
        await other.rest()
        assert not any(seat.viewer.over for seat in (*seats, project))


async def test_access_that_expires_ends_the_connection(bus: MemoryBus, clock: Clock) -> None:
    """Without `stream_end`: who comes back with a new token goes on where it was."""
    async with hub_on(bus, QUICK, clock) as hub:
        seat, other = await sit(hub, expires_at=clock.now + 60), await sit(hub, expires_at=None)
        await seat.until(lambda stream: len(stream.comments) >= 2)
        clock.now += 61
        assert [message["type"] for message in await seat.rest()] == ["access_expired"]
        assert not other.viewer.over


async def test_connections_are_limited(bus: MemoryBus) -> None:
    """By process, by project and by principal; who leaves makes room."""
    settings = EdgeSettings(connections=4, project_connections=3, principal_connections=2)
    async with hub_on(bus, settings) as hub:
        mine = [await sit(hub, principal="me") for _ in range(2)]
        with pytest.raises(TooManyViewers, match="'me'"):
            await sit(hub, principal="me")
        mine[0].viewer.leave()
        mine[0].viewer.leave()
        await sit(hub, principal="me")
        await sit(hub, principal="you")
        with pytest.raises(TooManyViewers, match="project"):
            await sit(hub)
        await sit(hub, Topic("q"))
        with pytest.raises(TooManyViewers, match="server"):
            await sit(hub, Topic("r"))


async def test_a_project_is_dropped_after_its_last_viewer(bus: MemoryBus) -> None:
    """Its subscription lingers for a reload, then it is closed; so is the timer."""
    async with hub_on(bus, EdgeSettings(linger=0.05)) as hub:
        first = await sit(hub)
        channel = hub.channels["p"]
        first.viewer.leave()
        second = await sit(hub)
        assert hub.channels["p"] is channel, "a reload finds it warm"
        second.viewer.leave()
        await eventually(lambda: not hub.channels and not bus._subscriptions)
        third = await sit(hub)
        assert types(third.take()) == ["connected"]


async def test_a_dropped_project_is_freed_at_once(bus: MemoryBus, writer: Producer, without_collector: None) -> None:
    """Its texts and frames do not wait for the collector, whose full passes become rare in a server of many objects."""
    async with hub_on(bus, EdgeSettings(linger=0)) as hub:
        await writer.write(bus, "a")
        seat = await sit(hub)
        fold = weakref.ref(hub.channels["p"].fold)
        seat.viewer.leave()
        del seat
        await eventually(lambda: fold() is None)


async def test_draining_ends_every_stream_but_no_topic(hub: Hub, bus: MemoryBus, writer: Producer) -> None:
    """A `retry:` at random, no `stream_end`; newcomers are sent away; a later hub goes on from the last id."""
    await writer.write(bus, "a")
    seats = [await sit(hub) for _ in range(20)]
    for seat in seats:
        seat.take()
    hub.drain()
    for seat in seats:
        assert await seat.rest() == []
        assert seat.stream.retry is not None
    assert len({seat.stream.retry for seat in seats}) > 10, "not all come back at once"
    with pytest.raises(Draining):
        await sit(hub)
    async with hub_on(bus) as later:
        await writer.write(bus, "b")
        assert [message.get("content") for message in (await sit(later, after=seats[0].last)).take()] == [None, "b"]


def test_settings_out_of_range_are_refused() -> None:
    """R127: an interval of nothing, or longer than proxies allow, is refused at start-up."""
    for name, value in (("heartbeat", 0), ("heartbeat", -1), ("heartbeat", 600), ("connections", 0), ("grace", -1)):
        with pytest.raises(ValueError, match=name):
            EdgeSettings(**{name: value})  # type: ignore[arg-type]
