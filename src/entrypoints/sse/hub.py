"""All streams of one process and event loop: one channel a project, one timer for all of them. Knows no HTTP."""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from stagecast.domain.bus import MessageBus
from stagecast.domain.errors import BusUnavailable

from . import framing
from .admission import admit
from .channel import Channel
from .settings import EdgeSettings
from .viewer import Draining, TooManyViewers, Viewer, ViewRequest

logger = logging.getLogger("stagecast.sse")

TICK = 0.5
"""Seconds between two looks of the timer, at the most."""
READERS = 16
"""Viewers that may read the log at once: after a restart of the server all of them come back together."""
RETRY_MILLISECONDS = 500, 3000
"""After how long a browser comes back from a server that stops: at random, so that not all come at once."""
LAST_SEND = 1.0
"""Seconds that a client which takes nothing may hold up a shutdown."""


class Hub:
    """Lets viewers join and leave. Belongs to the event loop that it is made in; the bus is its owner's."""

    def __init__(self, bus: MessageBus, settings: EdgeSettings, *, clock: Callable[[], float] = time.time) -> None:
        self.bus = bus
        self.settings = settings
        self.draining = False
        self.channels: dict[str, Channel] = {}
        self._clock = clock
        self._count = 0
        self._principals = Counter[str]()
        self._addresses = Counter[str]()
        self._reading = asyncio.Semaphore(READERS)
        self._joining: set[asyncio.Timeout] = set()
        """Bounds those who are about to join."""
        self._on_leave = self._left  # one object for all viewers
        self._timer: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def join(self, request: ViewRequest) -> Viewer:
        """A viewer that was told what it has to know first; whoever gets it calls its `leave()`.

        Raises UnknownRun, Finished, TooManyViewers, Draining, and BusUnavailable where the bus does not answer in
        time (`EdgeSettings.patience`).
        """
        if self.draining:
            raise Draining("the server is about to stop")
        channel = self._channel(request)
        viewer = Viewer(channel, request, asyncio.get_running_loop().time(), self._on_leave)
        channel.attach(viewer)
        self._count += 1
        if request.principal:
            self._principals[request.principal] += 1
        if request.address:
            self._addresses[request.address] += 1
        try:
            async with asyncio.timeout(None) as joining:  # a server that stops does not wait for a bus that is away
                self._joining.add(joining)
                try:
                    async with asyncio.timeout(self.settings.patience):
                        await channel.standing()
                    await admit(channel, viewer, self._reading)
                finally:
                    self._joining.discard(joining)
        except TimeoutError as error:
            viewer.leave()
            if self.draining:
                raise Draining("the server is about to stop") from error
            raise BusUnavailable("the bus does not answer") from error
        except BaseException:
            viewer.leave()
            raise
        if self.draining:
            self._send_away(viewer)
        return viewer

    def drain(self) -> None:
        """End every stream at once, without an end of its topic: the clients come back and lose nothing."""
        if not self.draining:
            logger.info("the server drains: %d viewers are sent away", self._count)
        self.draining = True
        for joining in self._joining:
            joining.reschedule(0)
        for channel in self.channels.values():
            for viewer in list(channel.viewers):
                self._send_away(viewer)

    async def aclose(self) -> None:
        """Drain and free everything but the bus. Idempotent."""
        self.drain()
        if self._timer is not None:
            self._timer.cancel()
            with suppress(asyncio.CancelledError):
                await self._timer
        channels, self.channels = list(self.channels.values()), {}
        for channel in channels:
            self._close(channel)
        await asyncio.gather(*self._closing)

    def _channel(self, request: ViewRequest) -> Channel:
        settings, project = self.settings, request.topic.project
        channel = self.channels.get(project)
        if self._count >= settings.connections:
            raise TooManyViewers("connections", f"this server has {self._count} streams")
        if channel is not None and len(channel.viewers) >= settings.project_connections:
            raise TooManyViewers("project", f"project {project} has {len(channel.viewers)} streams")
        if (principal := request.principal) and self._principals[principal] >= settings.principal_connections:
            raise TooManyViewers("principal", f"{principal!r} has {self._principals[principal]} streams")
        if (address := request.address) and self._addresses[address] >= settings.address_connections:
            raise TooManyViewers("address", f"there are {self._addresses[address]} streams from this address")
        if channel is None:
            channel = self.channels[project] = Channel(self.bus, project, settings)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().create_task(self._run_timer(), name="stagecast-sse-timer")
        return channel

    def _left(self, viewer: Viewer) -> None:
        self._count -= 1
        for counter, name in (self._principals, viewer.request.principal), (self._addresses, viewer.request.address):
            if name:
                counter[name] -= 1
                if not counter[name]:
                    del counter[name]
        if (channel := self.channels.get(viewer.topic.project)) is not None:
            channel.detach(viewer)

    def _send_away(self, viewer: Viewer) -> None:
        viewer.finish(framing.retry(random.randint(*RETRY_MILLISECONDS)))  # noqa: S311
        if viewer.sending_since is not None:
            viewer.abandon(asyncio.get_running_loop().time() + LAST_SEND)

    async def _run_timer(self) -> None:
        """One look after another, of all channels; drops those that nobody watches any more."""
        settings = self.settings
        shortest = min(settings.heartbeat, settings.stage_idle, settings.project_idle, settings.linger or TICK)
        pause = min(TICK, shortest / 4, self.bus.limits.lease / 4)
        now = asyncio.get_running_loop().time
        while self.channels:
            await asyncio.sleep(pause)
            for project, channel in list(self.channels.items()):
                try:
                    channel.tick(now(), self._clock())
                except Exception:
                    logger.exception("%s: the timer failed", project)
                if not channel.viewers and now() >= channel.drop_at:
                    del self.channels[project]
                    self._close(channel)
        self._timer = None

    def _close(self, channel: Channel) -> None:
        task = asyncio.get_running_loop().create_task(channel.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
