"""The live path: one subscribed connection for all subscriptions of an event loop, and one look-out beside it.

The feed is only a wake-up that carries its news along: what it misses, subscriptions read from the log. So after each
reconnect every subscription is told to catch up, and with each look the end of every active log is compared with what
the feed has brought: a lost last message before a silence is found too. The same look watches the leases.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from stagecast.domain import backoff
from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.leases import LeaseWatch, RunKey
from stagecast.domain.positions import Position

from .link import FeedConnection, Link
from .state import Keys, position_of

logger = logging.getLogger("stagecast.redis")

LOOK = 2.0
"""Seconds, at the most, between two looks at the logs' ends and the leases."""
PORTION = 128
"""Projects that are looked at in one round trip."""
LONGEST_PAUSE = 2.0
"""Seconds, at the most, between two attempts to connect."""


class Member(Protocol):
    """A subscription, as the feed sees it."""

    def offer(self, first: Position, stage: str, lines: list[bytes]) -> None:
        """News: events of `stage`, the first of them at position `first`."""
        ...

    def compare(self, end: Position | None) -> None:
        """The log ends at `end`: catch up if the feed has not brought that."""
        ...

    def suspect(self) -> None:
        """News may have been missed: catch up."""
        ...


Lapse = Callable[[str, str, str, dict[str, str]], Awaitable[None]]


class Feed:
    """Brings news to members while there are any. `lapse(project, stage, run, beats)` ends a run nobody keeps alive."""

    def __init__(self, link: Link, limits: BusLimits, lapse: Lapse, clock: Callable[[], float]) -> None:
        self.liveness: dict[str, frozenset[str]] = {}
        """Project -> stages that somebody holds a lease on, as of the last look."""
        self._link, self._lapse, self._clock = link, lapse, clock
        self._interval = min(LOOK, limits.lease / 4)
        self._watch = LeaseWatch(limits.lease)
        self._members: dict[str, set[Member]] = {}
        self._confirmed: dict[str, asyncio.Future[None]] = {}
        self._connection: FeedConnection | None = None
        self._epochs: dict[str, int] = {}
        self._heard_at = 0.0
        """When the connection brought something last, in the loop's time."""
        self._silence: asyncio.Timeout | None = None
        """Ends the reading of a connection that brings nothing any more."""
        self._tasks: list[asyncio.Task[None]] = []

    async def join(self, project: str, member: Member) -> None:
        """Add `member`; on return the server has confirmed the subscription. Raises BusUnavailable."""
        first = project not in self._members
        self._members.setdefault(project, set()).add(member)
        confirmed = self._confirmed.get(project)
        if confirmed is None or (confirmed.done() and confirmed.exception()):
            confirmed = self._confirmed[project] = asyncio.get_running_loop().create_future()
        try:
            if not self._tasks:
                self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._look_out())]
            elif first and self._connection is not None:
                with suppress(BusUnavailable):  # the reader meets the same failure and reports it
                    await self._connection.send("SUBSCRIBE", self._link.feed_of(project))
            async with asyncio.timeout(self._link.settings.connect_timeout):
                await asyncio.shield(confirmed)
        except TimeoutError:
            await self.leave(project, member)
            raise BusUnavailable("Redis does not confirm a subscription") from None
        except BaseException:
            await self.leave(project, member)
            raise

    async def leave(self, project: str, member: Member) -> None:
        """Remove `member`; the last one of a project unsubscribes, the last of all closes the connection."""
        members = self._members.get(project)
        if members is None:
            return
        members.discard(member)
        if members:
            return
        del self._members[project]
        self._confirmed.pop(project, None)
        self._epochs.pop(project, None)
        self.liveness.pop(project, None)
        if not self._members:
            await self.aclose()
        elif self._connection is not None:
            with suppress(BusUnavailable):
                await self._connection.send("UNSUBSCRIBE", self._link.feed_of(project))

    async def aclose(self) -> None:
        """Stop. Members stay known; joining starts again."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        clock = asyncio.get_running_loop().time
        failures = 0
        while True:
            connection = FeedConnection(self._link.connect)
            try:
                async with asyncio.timeout(self._link.settings.connect_timeout):
                    await connection.open()
                    self._connection = connection  # who joins from here on subscribes by itself
                    await connection.send("SUBSCRIBE", *(self._link.feed_of(project) for project in self._members))
                async with asyncio.timeout(None) as self._silence:
                    self._heard_at = clock()
                    while True:
                        kind, channel, data = await connection.receive()
                        self._heard_at = clock()
                        if failures and kind in {b"pong", b"message"}:  # a server that loads its data confirms, no more
                            logger.info("the feed is back")
                            failures = 0
                        self._dispatch(kind, channel, data)
                        if self._link.has_left(connection):  # a demoted master would go on answering
                            raise BusUnavailable("the master is another one")
            except (BusUnavailable, TimeoutError) as error:
                reason = str(error) or "a ping was not answered"
                if failures == 0:
                    logger.warning("the feed is down and reconnects: %s", reason)
                failures += 1
                self._interrupted(BusUnavailable(f"the feed is down: {reason}"))
            finally:
                self._connection = self._silence = None
                await connection.close()
            await asyncio.sleep(backoff.pause(failures, LONGEST_PAUSE))

    def _dispatch(self, kind: bytes, channel: bytes, data: bytes) -> None:
        project = channel[channel.find(b"{") + 1 : channel.rfind(b"}")].decode()
        if kind == b"message":
            header, *lines = data.split(b"\n")
            first, _, stage = header.partition(b" ")
            position = position_of(first)
            if position is None:
                logger.debug("a message on the feed that is not stagecast's is dropped")
                return
            name = stage.decode()
            for member in self._members.get(project, ()):
                member.offer(position, name, lines)
        elif kind == b"subscribe":
            for member in self._members.get(project, ()):
                member.suspect()
            confirmed = self._confirmed.get(project)
            if confirmed is not None and not confirmed.done():
                confirmed.set_result(None)

    def _interrupted(self, error: BusUnavailable) -> None:
        """The connection is gone: who waits for a confirmation is told, and no lease was watched."""
        self._watch.interrupt()
        for project, confirmed in self._confirmed.items():
            if not confirmed.done():
                confirmed.set_exception(error)
                confirmed.exception()  # seen, even where nobody waits
            else:
                self._confirmed[project] = asyncio.get_running_loop().create_future()

    async def _look_out(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            if self._silence is not None and clock() - self._heard_at > 2 * self._interval + 1:
                self._silence.reschedule(clock())  # pings are answered more often
            try:
                if self._connection is not None:
                    await self._connection.send("PING")
                await self._look_around()
            except BusUnavailable as error:
                self._watch.interrupt()
                logger.debug("a look at the logs failed: %s", error)

    async def _look_around(self) -> None:
        """Look at all projects, some at a time, so that thousands of them hold up neither Redis nor the viewers."""
        projects = list(self._members)
        portions = max(1, math.ceil(len(projects) / PORTION))
        seen = set[RunKey]()
        for n in range(portions):
            await asyncio.sleep(self._interval / portions)
            await self._look([one for one in projects[n::portions] if one in self._members], seen)
        self._watch.keep(seen)

    async def _look(self, projects: list[str], seen: set[RunKey]) -> None:
        heads = await self._link.heads((Keys(project).log, Keys(project).leases) for project in projects)
        self._watch.begin(asyncio.get_running_loop().time())
        for project, (last, held) in zip(projects, heads, strict=True):
            if project not in self._members:  # left while Redis answered: nothing of it is to stay
                continue
            end = position_of(last)
            for member in list(self._members.get(project, ())):
                member.compare(end)
            epoch = end.epoch if end else 0
            if self._epochs.setdefault(project, epoch) != epoch:
                self._epochs[project] = epoch
                self._watch.interrupt()
            runs = _runs(held)
            self.liveness[project] = frozenset(stage for (stage, _), beats in runs.items() if any(beats))
            for (stage, run), beats in runs.items():
                key = (project, stage, run)
                seen.add(key)
                queued_until = beats.pop("", None)
                if beats:
                    lapsed = self._watch.lapsed(key, {producer: int(beat) for producer, beat in beats.items()})
                else:
                    lapsed = queued_until is not None and self._clock() * 1_000_000 >= int(queued_until)
                if lapsed:
                    await self._lapse(project, stage, run, beats)


def _runs(held: dict[bytes, bytes]) -> dict[tuple[str, str], dict[str, str]]:
    """The leases hash, by stage and run: producer -> beat. Producer '' stands for a run that waits for its start."""
    runs: dict[tuple[str, str], dict[str, str]] = {}
    for name, value in held.items():
        stage, _, producer = name.decode().partition(":")
        run, _, beat = value.decode().partition(" ")
        runs.setdefault((stage, run), {})[producer] = beat
    return runs
