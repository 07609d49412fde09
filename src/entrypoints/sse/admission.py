"""How a viewer begins: fresh, from where it was, with one run, or not at all. Knows no HTTP."""

import asyncio
from typing import TypeAlias

from stagecast.domain.bus import Published, Snapshot
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.following import ResetCause
from stagecast.domain.positions import Position
from stagecast.domain.resuming import shown_again
from stagecast.domain.topics import Topic

from . import framing
from .channel import Channel
from .viewer import Finished, UnknownRun, Viewer

CATCH_UP = 2.0
"""Seconds that this process may need to reach a position which a client was told by another one."""
LOOK = 0.2
"""Seconds that a subscription which stands may take to tell that it begins anew."""

_Read: TypeAlias = "list[Published] | ResetCause"


async def admit(channel: Channel, viewer: Viewer, reading: asyncio.Semaphore) -> None:
    """Tell `viewer` that it is connected and what it has missed, and let it have what comes.

    The channel's subscription stands. `reading` bounds how many viewers read the log at once. Raises UnknownRun,
    Finished where there is nothing to wait for, and BusUnavailable.
    """
    request, fold = viewer.request, channel.fold
    if request.run is not None:
        viewer.topic = _topic_of_run(channel, viewer.topic, request.run)
    connected = fold.connected(viewer.topic)
    if request.after is not None:
        first = await _resumed(channel, viewer, request.after, reading)
    elif request.malformed:
        first = channel.reset(viewer, "truncated")
    elif request.run is not None or request.latest:
        first = channel.reset(viewer, None)
    else:
        first = channel.fresh(viewer)
    viewer.tell(connected, *first)


def _topic_of_run(channel: Channel, topic: Topic, run: str) -> Topic:
    """The stage of `topic` whose current run is `run`."""
    for name, state in channel.fold.view.stages.items():
        if topic.covers(name) and state.run == run:
            return Topic(topic.project, name)
    raise UnknownRun(f"{run!r} is not a current run here")


async def _resumed(channel: Channel, viewer: Viewer, after: Position, reading: asyncio.Semaphore) -> list[bytes]:
    """Exactly what came after `after`, from the log as far as the recent events don't reach; or a reset."""
    fold = channel.fold
    past: list[Published] = []
    reached = after
    while True:
        here = fold.view.position
        if here is None or reached.epoch < here.epoch or (reached > here and not await _reached(channel, reached)):
            behind = fold.view.position
            if behind is not None and behind < reached and not await _is_set_back(channel, reached, reading):
                raise BusUnavailable("this process has not yet come as far as the client")
            channel.await_restoration(viewer)
            return channel.reset(viewer, "epoch")
        if reached > here:
            continue
        end = fold.view.end(viewer.topic)
        if end is not None and after >= end and not viewer.request.is_cleared:
            raise Finished(f"{viewer.topic} has ended")
        if viewer.request.is_cleared:  # another process had lost what this one has: all of it is shown again
            return channel.reset(viewer, "epoch")
        if fold.recent.covers(reached):
            break
        read = await _read(channel, reached, here, reading)
        if isinstance(read, str):
            return channel.reset(viewer, read)
        past += read
        reached = here
    seen = [shown_again(fold.view, one) for one in past if viewer.topic.covers(one.event.stage)]
    shown = [one for one in seen if one is not None]
    cursor = fold.recent.after(reached)
    portion = fold.again(shown, cursor, viewer.topic, whole=viewer.whole, run=viewer.request.run)
    channel.begin(viewer, portion.cursor, portion.position or after)
    viewer.over = portion.over
    return [framing.id_only(after), portion.data, fold.stream_end() if portion.over else b""]


async def _reached(channel: Channel, position: Position) -> bool:
    """Whether this process comes as far as `position` soon."""
    try:
        async with asyncio.timeout(CATCH_UP):
            while (here := channel.fold.view.position) is not None and here < position:
                await channel.change()
    except TimeoutError:
        return False
    return here is not None


async def _is_set_back(channel: Channel, position: Position, reading: asyncio.Semaphore) -> bool:
    """Whether the log itself ends before `position`, not only what this process has of it. Raises BusUnavailable."""
    try:
        async with (
            asyncio.timeout(channel.settings.patience),
            reading,
            channel.bus.subscribe(Topic(channel.project), after=position) as subscription,
        ):
            delivery = await asyncio.wait_for(anext(subscription), LOOK)
            return isinstance(delivery, Snapshot)
    except TimeoutError:
        return False  # nothing came after it, or nobody knows: the client asks again


async def _read(channel: Channel, after: Position, until: Position, reading: asyncio.Semaphore) -> _Read:
    """The log's events after `after` up to `until`, or why they cannot be had. Raises BusUnavailable."""
    found: list[Published] = []
    reached = after
    try:
        async with (
            asyncio.timeout(channel.settings.patience),
            reading,
            channel.bus.subscribe(Topic(channel.project), after=after) as subscription,
        ):
            async for delivery in subscription:
                if isinstance(delivery, Snapshot):
                    return delivery.reset or "truncated"
                if not delivery.position.follows(reached):
                    return "run"  # something was overtaken, perhaps by what the fold does not know yet
                found.append(delivery)
                reached = delivery.position
                if reached == until:
                    return found
    except TimeoutError as error:
        raise BusUnavailable("the log cannot be read in time") from error
    raise BusUnavailable("the bus is closed")
