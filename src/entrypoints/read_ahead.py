"""A subscription on the background loop whose messages are taken by synchronous readers in their own threads."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator

from attrs import evolve, frozen

from stagecast.domain.bus import Delivery, Liveness, MessageBus, ResetReason, Snapshot, Subscription
from stagecast.domain.events import TokenEmitted
from stagecast.domain.following import Follower, Reset, Shown, View
from stagecast.domain.positions import Position
from stagecast.domain.resuming import shown_again
from stagecast.domain.text import units
from stagecast.domain.topics import Topic

from .background import Background

AHEAD = 64
"""Messages that are read ahead. More would cost memory: each token holds the stage's text up to it."""


@frozen
class Ready:
    """A message to be taken."""

    shown: Shown
    ends: bool
    """Whether the topic ends with it."""


class ReadAhead:
    """A subscription on the background loop; readers take its messages in their own threads."""

    def __init__(self, bus: MessageBus, topic: Topic, after: Position | None) -> None:
        self.position = after
        """Up to where messages were taken."""
        self.ends = 0
        """How many ends were taken."""
        self.version = 0
        """Counts the changes that a reader may wait for."""
        self.is_over = False
        self.error: Exception | None = None
        self._bus, self._topic = bus, topic
        self._ready: deque[Ready] = deque()
        self._taking = threading.Lock()
        self._is_paused = False
        self._room, self._changed = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def take(self, loop: Background) -> Ready | None:
        """The next message, None where there is none yet."""
        with self._taking:
            if not self._ready:
                return None
            taken = self._ready.popleft()
            self.position = taken.shown.position or self.position
            self.ends += taken.ends
        if self._is_paused and len(self._ready) <= AHEAD // 2:
            loop.soon(self._room.set)
        if taken.ends:
            loop.soon(self._announce)
        return taken

    async def open(self) -> None:
        """Return once the subscription stands. Raises what kept it from standing."""
        standing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(standing))
        try:
            await standing
        except BaseException:
            self._task.cancel()
            raise

    def stop(self) -> None:
        """End the subscription, without waiting. On the loop."""
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """End the subscription."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def changed(self, version: int, timeout: float | None) -> bool:
        """Whether something has changed since `version`, at the latest after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while self.version == version:
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _run(self, standing: "asyncio.Future[None]") -> None:
        try:
            async with self._bus.subscribe(self._topic) as subscription:
                follower = await self._follower(subscription)
                standing.set_result(None)
                await self._follow(follower)
        except Exception as error:
            self.error = error
            if not standing.done():
                standing.set_exception(error)
        finally:
            self.is_over = True
            self._announce()

    async def _follower(self, subscription: Subscription) -> Follower:
        """A follower of what comes; what came after the position to resume from is ready, or a reset will be."""
        patience, after = self._bus.limits.lease, self.position
        if after is None:
            return Follower(subscription, self._topic, patience=patience)
        snapshot = await anext(subscription)
        assert isinstance(snapshot, Snapshot)
        view = View(self._topic.project)
        view.restart(snapshot, asyncio.get_running_loop().time())
        past = [] if after == view.position else await self._past(view, after)
        if isinstance(past, str):
            begun = _Begun(evolve(snapshot, reset=past), subscription)
            follower = Follower(begun, self._topic, patience=patience)
            follower.view.position = after
            return follower
        end = view.end(self._topic)
        self._put(past, ends=any(shown.position == end for shown in past))
        follower = Follower(subscription, self._topic, patience=patience)
        follower.view = view
        return follower

    async def _past(self, view: View, after: Position) -> list[Shown] | ResetReason:
        """What came after `after`, up to where `view` stands, without what was overtaken; or why it cannot be had."""
        if view.position is not None and view.position < after:
            return "epoch"  # the log was rewound
        found: list[Shown] = []
        reached = after
        # All stages: of one stage's events the last before the view's position is not known.
        async with self._bus.subscribe(Topic(self._topic.project), after=after) as subscription:
            while view.position is None or reached < view.position:
                delivery = await anext(subscription)
                if isinstance(delivery, Snapshot):
                    return delivery.reset or "truncated"
                if not delivery.position.follows(reached):
                    return "truncated"  # something was overtaken, perhaps by what `view` does not know yet
                reached = delivery.position
                if self._topic.covers(delivery.event.stage) and (shown := shown_again(view, delivery)) is not None:
                    found.append(_with_text(view, shown))
        return found

    async def _follow(self, follower: Follower) -> None:
        """Read on beyond the topic's end: late news of a run, or the next run, may follow."""
        end = follower.view.end(self._topic)
        while True:
            await self._until_there_is_room()
            try:
                found = [await anext(follower)]
            except StopAsyncIteration:
                return  # the bus was closed
            ends = False
            if follower.is_over:
                found += [shown async for shown in follower]  # all there is before the end: this waits for nothing
                follower.is_over = False
                last, end = end, follower.view.end(self._topic)
                ends = end is None or end != last or _is_loss(found[-1])
            self._put(found, ends=ends)

    def _put(self, found: list[Shown], *, ends: bool) -> None:
        self._ready.extend(Ready(shown, ends and shown is found[-1]) for shown in found)
        self._announce()

    async def _until_there_is_room(self) -> None:
        while len(self._ready) >= AHEAD:
            self._room.clear()
            self._is_paused = True
            if len(self._ready) >= AHEAD:  # a reader may just have made room, before it could know that we wait
                await self._room.wait()
            self._is_paused = False

    def _announce(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()


class _Begun:
    """A subscription that begins with a delivery that was already taken from it."""

    def __init__(self, first: Delivery, rest: Subscription) -> None:
        self._first: Delivery | None = first
        self._rest = rest

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        first, self._first = self._first, None
        return await anext(self._rest) if first is None else first

    @property
    def liveness(self) -> Liveness:
        return self._rest.liveness


def _is_loss(shown: Shown) -> bool:
    return isinstance(shown.content, Reset) and shown.content.cause == "lost"


def _with_text(view: View, shown: Shown) -> Shown:
    token = shown.content
    if not isinstance(token, TokenEmitted):
        return shown
    return evolve(shown, text=view.stages[token.stage].text_until(token.offset + units(token.content)))
