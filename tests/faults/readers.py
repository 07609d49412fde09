"""The readers at the hand-off seams: each takes its own way through the code, and tells a `Watch` all it is told."""

import asyncio
from collections.abc import Callable

from attrs import evolve

from stagecast.domain.bus import Delivery, Published
from stagecast.domain.following import Follower, Reset, Shown, View
from stagecast.domain.topics import Topic
from stagecast.entrypoints.messages import message
from stagecast.entrypoints.read_ahead import ReadAhead
from stagecast.entrypoints.sse import framing
from stagecast.entrypoints.sse.hub import Hub
from stagecast.entrypoints.sse.viewer import Finished, ViewRequest
from tests.faults.interleaving import step
from tests.faults.scenes import Actor, World
from tests.faults.watching import Watch
from tests.sse.eventstream import EventStreamParser
from tests.sse.seat import Notice


async def follow(world: World) -> None:
    """The domain's own reader."""
    watch = world.watch()
    async with world.bus.subscribe(world.topic) as subscription:
        async for shown in Follower(subscription, world.topic, patience=world.bus.limits.lease):
            watch.take(message(shown))
    watch.end(may_be_lost=world.is_lost)


async def resume(world: World) -> None:
    """One that leaves after its first message, and folds on from the position where it was."""
    watch, view = world.watch(), View(world.topic.project)
    is_first = True
    while not watch.has_ended():
        if not world.is_lost:
            watch.newest = max(watch.newest, world.opened)  # what was overtaken meanwhile is not replayed
        async with world.bus.subscribe(world.topic, after=view.position) as subscription:
            async for delivery in subscription:
                for shown in _folded(view, delivery):
                    watch.take(message(shown))
                if watch.has_ended() or (is_first and watch.count and view.position is not None):
                    break
        is_first = False
    watch.end(may_be_lost=world.is_lost)


def _folded(view: View, delivery: Delivery) -> list[Shown]:
    now, topic = asyncio.get_running_loop().time(), Topic(view.project, "s")
    if isinstance(delivery, Published):
        shown = view.apply(delivery, now)
        return [shown] if shown else []
    view.restart(delivery, now)
    reset = [Shown(Reset(project=view.project, stage="s", cause=delivery.reset), None)] if delivery.reset else []
    return [*reset, *view.replay(topic)]


class _Direct:
    """`Background` for a reader that lives on the loop itself."""

    def soon(self, callback: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_soon_threadsafe(callback)


def read_ahead(*, returns: bool = False) -> Actor:
    """The synchronous subscriber's reader; one that returns leaves after its first message that tells its position."""

    async def read(world: World) -> None:
        watch = world.watch()
        leaves = returns
        while not watch.has_ended():
            ahead = ReadAhead(world.bus, world.topic, watch.position)
            await ahead.open()
            while not watch.has_ended() and not (leaves and watch.position):
                version = ahead.version
                await step()
                if taken := ahead.take(_Direct()):  # type: ignore[arg-type]
                    watch.take(message(taken.shown))
                    assert taken.ends == watch.has_ended(), f"the reader was told {watch.told}, end: {taken.ends}"
                else:
                    assert not ahead.is_over, ahead.error
                    await step()
                    await ahead.changed(version, None)
            leaves = False
            await ahead.close()
        watch.end(may_be_lost=world.is_lost)

    return read


def viewer(*, delta: bool = False, returns: bool = False, to: int = 0) -> Actor:
    """A browser at the hub; one that returns leaves after its first message, and comes back to hub `to`."""

    async def view(world: World) -> None:
        watch = world.watch()
        request = ViewRequest(topic=world.topic, delta=delta)
        if returns and (last := await _connect(world, world.hub(), request, watch, leaves=True)):
            after, is_cleared = framing.seen(last)
            request = evolve(request, after=after, is_cleared=is_cleared)
        if not returns or not watch.has_ended():
            await _connect(world, world.hub(to), request, watch)
        watch.end(may_be_lost=world.is_lost)

    return view


async def _connect(world: World, hub: Hub, request: ViewRequest, watch: Watch, *, leaves: bool = False) -> str:
    """Read one connection to its end, or to its first message; what the browser would send as Last-Event-ID."""
    stream = EventStreamParser()
    try:
        seat = await hub.join(request)
    except Finished:
        raise AssertionError(f"finished, and the reader was told {watch.told}") from None
    notice, seen = Notice(seat), 0
    while not (leaves and stream.last_event_id and seen > 1):
        if data := seat.take():
            await step()
            stream.feed(data)
            for event in stream.events[seen:]:
                if event.message["type"] == "stream_end":
                    watch.end(may_be_lost=world.is_lost)
                elif event.message["type"] != "connected":
                    watch.take(event.message)
            seen = len(stream.events)
        elif seat.over:
            break
        else:
            await notice.news()
    seat.leave()
    return stream.last_event_id
