"""What the SSE application holds while it runs: a bus, and a hub for each event loop."""

import asyncio
import logging
import multiprocessing
import threading

from stagecast.domain.access import UsedTickets
from stagecast.domain.bus import MessageBus
from stagecast.entrypoints import configuration, wiring

from .hub import Hub
from .settings import EdgeSettings
from .shutdown import SignalChain
from .tally import Tally

logger = logging.getLogger("stagecast.sse")


class Edge:
    """Opens bus and hub at the first use, nothing before; closes only what it opened.

    `bus` is a bus, which stays its owner's, or a URL; None stands for the configured URL. A bus that lives within the
    process is the process's shared one, so that its publishers are seen. `used_tickets` stay their owner's too; without
    them what remembers tickets is opened with the bus' URL.
    """

    def __init__(
        self, bus: MessageBus | str | None, settings: EdgeSettings, used_tickets: UsedTickets | None = None
    ) -> None:
        self._given = bus if isinstance(bus, str | None) else wiring.checked(bus)
        self.settings = settings
        self.refusals = Tally()
        self._bus: MessageBus | None = None
        self._owned = False
        self._given_tickets = used_tickets
        self._used_tickets: UsedTickets | None = None
        self._hubs: dict[asyncio.AbstractEventLoop, Hub] = {}
        self._lock = threading.Lock()
        self._signals = SignalChain(self.drain, self._quiet)

    def hub(self) -> Hub:
        """The running event loop's hub. Raises NotConfigured where the bus cannot be opened."""
        loop = asyncio.get_running_loop()
        if (hub := self._hubs.get(loop)) is None:
            with self._lock:
                for stale in [one for one in self._hubs if one.is_closed()]:
                    del self._hubs[stale]
                hub = self._hubs[loop] = Hub(self._opened(), self.settings)
                self._signals.install(loop)
        return hub

    def used_tickets(self) -> UsedTickets:
        """What remembers which tickets were used. Raises NotConfigured where nothing does that all processes share."""
        if self._given_tickets is not None:
            return self._given_tickets
        with self._lock:
            if self._used_tickets is None:
                is_shared = self._opened().capabilities.processes
                url = (self._given if isinstance(self._given, str) else None) or (is_shared and configuration.bus_url())
                self._used_tickets = wiring.open_used_tickets(url or wiring.IN_PROCESS)
            return self._used_tickets

    def drain(self) -> None:
        """End all streams now, in a way that lets clients come back. From any thread and from a signal handler."""
        for loop, hub in list(self._hubs.items()):
            if not loop.is_closed():
                loop.call_soon_threadsafe(hub.drain)

    async def aclose(self) -> None:
        """End the running loop's streams and free what was opened here. Idempotent; the edge can be used again."""
        if (hub := self._hubs.pop(asyncio.get_running_loop(), None)) is not None:
            await hub.aclose()
        if self._used_tickets is not None:
            await self._used_tickets.aclose()
        with self._lock:
            if any(not loop.is_closed() for loop in self._hubs):
                return
            self._signals.remove()
            bus, owned = self._bus, self._owned
            self._bus, self._owned = None, False
        if bus is not None and owned:
            await bus.aclose()

    def _quiet(self) -> bool:
        """Whether no stream is left. Called by the main thread's loop; others' hubs may change meanwhile."""
        return not any(channel.viewers for hub in list(self._hubs.values()) for channel in list(hub.channels.values()))

    def _opened(self) -> MessageBus:
        if self._bus is None:
            if isinstance(self._given, str | None):
                self._bus, self._owned = _open(self._given or configuration.bus_url())
            else:
                self._bus = self._given
            if not self._bus.capabilities.processes and multiprocessing.parent_process() is not None:
                logger.warning(
                    "this bus lives in one process only, and this server is one of several processes: nothing that "
                    "others publish is seen here. Name a bus that processes share, for example "
                    "STAGECAST_BUS=redis://localhost:6379/0"
                )
        return self._bus


def _open(url: str) -> tuple[MessageBus, bool]:
    """The bus, and whether it is our own."""
    bus = wiring.open_bus(url)
    return (bus, True) if bus.capabilities.processes else (wiring.shared_bus(url), False)
