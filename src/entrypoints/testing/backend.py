"""What an adapter's author hands to the contract suite: a backend, opened any number of times."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar, overload

import anyio
from attrs import define

from stagecast.domain.bus import BusLimits, MessageBus
from stagecast.entrypoints.wiring import open_bus

T = TypeVar("T")


@define
class Patience:
    """How long a test waits for a condition before it fails: the `patience` of the class that runs."""

    seconds: float = 20.0


PATIENCE = Patience()
POLL = 0.005


class Backend(Protocol):
    """One server, or whatever keeps the logs, empty at the start of each test.

    Publishers and subscribers are different processes in production, so each test opens several handles. All of one
    test are opened with the same limits.
    """

    async def open(self, limits: BusLimits) -> MessageBus:
        """A new handle, usable in the event loop that runs. Memory, which has nothing else, gives the same bus."""
        ...

    async def close(self, bus: MessageBus) -> None:
        """Give a handle back: close it, unless others use the same object."""
        ...

    async def lose_everything(self) -> None:
        """Forget all, as a server that restarts without persistence does. Handles stay open."""
        ...

    async def connections(self) -> int:
        """How many connections the backend's server has now; 0 where there are none."""
        ...


class ProcessBackend(Backend, Protocol):
    """A backend that `stagecast.entrypoints.wiring.open_bus` reaches by a URL, also in another process."""

    @property
    def url(self) -> str: ...


class RewindingBackend(Backend, Protocol):
    """A backend that can go back to an older state, as a server does that loads yesterday's dump."""

    async def save(self) -> None:
        """Keep the present state."""
        ...

    async def rewind(self) -> None:
        """Go back to the state that was saved. Handles stay open, or reconnect."""
        ...


class FlakyBackend(Backend, Protocol):
    """A backend that can be away for a while without losing anything."""

    def outage(self) -> AbstractAsyncContextManager[None]:
        """Within the block no handle reaches the backend; its data is kept."""
        ...


class UrlBackend:
    """A `ProcessBackend` that opens its buses as users do, by `open_bus`. A subclass says how to lose everything."""

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def url(self) -> str:
        return self._url

    async def open(self, limits: BusLimits) -> MessageBus:
        return open_bus(self._url, limits)

    async def close(self, bus: MessageBus) -> None:
        await bus.aclose()

    async def lose_everything(self) -> None:
        raise NotImplementedError(f"{type(self).__name__} must say how {self._url} loses everything")

    async def connections(self) -> int:
        return 0


@asynccontextmanager
async def opened(backend: Backend, limits: BusLimits) -> AsyncIterator[MessageBus]:
    """A handle of its own for the block."""
    bus = await backend.open(limits)
    try:
        yield bus
    finally:
        await backend.close(bus)


@overload
async def eventually(predicate: Callable[[], Awaitable[T]], timeout: float | None = None) -> T: ...
@overload
async def eventually(predicate: Callable[[], T], timeout: float | None = None) -> T: ...
async def eventually(predicate: Callable[[], Any], timeout: float | None = None) -> Any:
    """Call `predicate` until its value is true and return that; AssertionError after `timeout` seconds (PATIENCE)."""
    timeout = PATIENCE.seconds if timeout is None else timeout
    deadline = time.monotonic() + timeout
    while True:
        result = predicate()
        value = await result if isinstance(result, Awaitable) else result
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s; the last value was {value!r}")
        await anyio.sleep(POLL)
