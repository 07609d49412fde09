"""What the hub sends while a stage runs: shared frames, slow viewers, long texts."""

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse.hub import Hub
from stagecast.entrypoints.sse.recent import EVENTS
from stagecast.entrypoints.testing.actors import Producer
from tests.sse.eventstream import types
from tests.sse.hubs import STAGE, sit
from tests.sse.texts import from_contents, from_deltas


async def test_a_new_attempt_and_a_new_run_are_announced(hub: Hub, bus: MemoryBus) -> None:
    """A reset with the run and the attempt comes before what begins anew."""
    seat, delta = await sit(hub), await sit(hub, delta=True)
    first, worker = Producer(STAGE), Producer(STAGE)
    for attempt in (first, worker):
        await attempt.open(bus, "run")
        await attempt.write(bus, "a", "b")
    await worker.send(bus, worker.done())
    messages = await seat.rest()
    assert types(messages) == ["connected", "token", "token", "reset", "token", "token", "done", "stream_end"]
    reset = messages[3]
    assert (reset["reason"], reset["run"], reset["attempt"], reset["stage"]) == ("run", "run", 2, "s")
    assert from_contents(messages) == from_deltas(await delta.rest()) == "ab"


async def test_a_slow_viewer_is_caught_up_in_one_piece(hub: Hub, bus: MemoryBus, writer: Producer) -> None:
    """R107: who takes nothing for long loses nothing: tokens come as one, or, far behind, a reset and a snapshot."""
    seat, slow, slower = await sit(hub), await sit(hub), await sit(hub)
    for one in (slow, slower):
        one.take()
    await writer.write(bus, *[f"{n:020};" for n in range(700)])
    await seat.until_text(f"{699:020};")
    (token,) = slow.take()
    assert token["content"] == token["full_text"] == "".join(f"{n:020};" for n in range(700))
    await writer.write(bus, *[f"{n:020};" for n in range(700, EVENTS + 700)])
    await seat.until_text(f"{EVENTS + 699:020};")
    messages = slower.take()
    assert [message.get("reason") for message in messages] == ["truncated", None]
    assert messages[1]["full_text"] == "".join(f"{n:020};" for n in range(EVENTS + 700))
    assert slower.stream.last_event_id == seat.stream.last_event_id
    await writer.send(bus, writer.done())
    assert types(await slower.rest()) == ["done", "stream_end"]
    assert from_contents(seat.messages) == from_contents(slower.messages)


async def test_a_viewer_of_a_quiet_stage_is_not_behind(hub: Hub, bus: MemoryBus, writer: Producer) -> None:
    """However much happens in other stages of the project, a viewer has missed nothing of its own."""
    quiet, busy = await sit(hub, Topic("p", "quiet")), await sit(hub)
    assert types(quiet.take()) == ["connected"]
    for number in range(3):
        await writer.write(bus, *"x" * EVENTS)
        await busy.until_text("x" * EVENTS * (number + 1))
    other = Producer(Topic("p", "quiet"))
    await other.write(bus, "a")
    assert types(await quiet.until_type("token")) == ["token"]


async def test_frames_are_made_once_for_all(hub: Hub, bus: MemoryBus, writer: Producer) -> None:
    """Viewers at the same place are sent the very same bytes object."""
    first = await sit(hub)
    viewers = [first.viewer, *[(await sit(hub)).viewer for _ in range(2)]]
    deltas = [(await sit(hub, delta=True)).viewer for _ in range(3)]
    for viewer in (*viewers, *deltas):
        viewer.take()
    await writer.write(bus, "a")
    await first.news()
    for group in (viewers, deltas):
        frames = [viewer.take() for viewer in group]
        assert frames[0] is frames[1] is frames[2]


async def test_no_whole_text_is_made_that_nobody_wants(hub: Hub, bus: MemoryBus, writer: Producer) -> None:
    """Frames with `full_text` exist only while a viewer of that stage wants them."""
    delta, elsewhere = await sit(hub, delta=True), await sit(hub, Topic("p", "other"))
    await writer.write(bus, "a")
    await delta.until_type("token")
    recent = hub.channels["p"].fold.recent
    assert [one.whole for one in recent.between(0, recent.end)] == [None]
    whole = await sit(hub)
    await writer.write(bus, "b")
    await whole.until_text("ab")
    assert [one.whole is None for one in recent.between(0, recent.end)] == [True, False]
    assert types(elsewhere.take()) == ["connected"]


async def test_long_texts_are_sent_whole_at_most_ten_times_a_second(
    hub: Hub, bus: MemoryBus, writer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond 64 KB a burst becomes few frames; order is kept, nothing is missing, and the end is not delayed."""
    monkeypatch.setattr("stagecast.entrypoints.sse.channel.INTERVAL", 3600.0)
    monkeypatch.setattr("stagecast.entrypoints.sse.fold.INTERVAL", 3600.0)
    whole, delta = await sit(hub), await sit(hub, delta=True)
    await writer.write(bus, "x" * 64 * 1024)
    await whole.until_type("token")
    for _ in range(30):
        await writer.write(bus, "a", "b")
    await writer.send(bus, writer.progress(1, 2))
    await writer.write(bus, "c")
    await delta.until_text("c")
    messages = whole.take()
    assert len(messages) <= 1, "the first frame of the burst goes at once, the others wait for their time"
    await writer.send(bus, writer.done())
    messages += await whole.rest()
    assert types(messages)[-4:] == ["progress", "token", "done", "stream_end"]
    assert len(messages) <= 6
    await delta.rest()
    assert from_contents(whole.messages) == from_deltas(delta.messages)
    ids = [event.own_id for event in whole.stream.events if event.own_id]
    assert ids == sorted(ids, key=lambda id_: Position.parse(id_))


async def test_a_held_back_token_is_sent_when_its_time_has_come(hub: Hub, bus: MemoryBus, writer: Producer) -> None:
    """Without any further event the last tokens of a long text still arrive."""
    whole = await sit(hub)
    await writer.write(bus, "x" * 65 * 1024)
    await whole.until_type("token")
    await writer.write(bus, "a")
    await writer.write(bus, "b")
    await whole.until_text("ab")
