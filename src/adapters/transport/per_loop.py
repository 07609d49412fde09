"""What a bus has once for each event loop that uses it: connections, tasks. Knows nothing of what that is."""

import asyncio
import ctypes
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from stagecast.domain.errors import BusUnavailable


class Closing(Protocol):
    """What can be closed, in the loop that it belongs to."""

    async def aclose(self) -> None: ...


T = TypeVar("T", bound=Closing)


class PerLoop(Generic[T]):
    """One `T` an event loop, from its first use until the loop ends at the latest. A forked child begins anew."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()
        self._guards: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = WeakKeyDictionary()
        self._closed = False
        _all.add(self)

    def here(self) -> T:
        """The running loop's. Raises BusUnavailable after `aclose`."""
        if self._closed:
            raise BusUnavailable("the bus is closed")
        loop = asyncio.get_running_loop()
        if (made := self._made.get(loop)) is None:
            made = self._made[loop] = self._make()
            # Whoever runs one loop after another, as by asyncio.run, would leave connections behind with each of them.
            guard = self._guards[loop] = self._closed_with_the_loop(loop, made)
            with suppress(StopIteration):
                guard.__anext__().send(None)
        return made

    async def aclose(self) -> None:
        """Close those of all loops, each in its own. Idempotent."""
        self._closed = True
        here = asyncio.get_running_loop()
        for loop, guard in list(self._guards.items()):
            if loop is here:
                await guard.aclose()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(_close(guard), loop)
        self._made.clear()
        self._guards.clear()

    async def _closed_with_the_loop(self, loop: asyncio.AbstractEventLoop, made: T) -> AsyncGenerator[None, None]:
        """Close `made` when the loop ends its asynchronous generators, which is the last thing that it does."""
        try:
            yield
        finally:
            self._made.pop(loop, None)
            self._guards.pop(loop, None)
            await made.aclose()

    def leave_to_parent(self) -> None:
        """In a forked child: begin anew, and never touch what was inherited, not even to free it.

        Closing an inherited transport would unregister its socket from the selector that the child shares with its
        parent, and the parent would wait for ever. So the objects are given a reference that nobody gives back.
        """
        inherited = [*self._made.items(), *self._guards.items()]
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))
        self._made, self._guards = WeakKeyDictionary(), WeakKeyDictionary()


_all: WeakSet[PerLoop[Any]] = WeakSet()


async def _close(guard: AsyncGenerator[None, None]) -> None:
    await guard.aclose()


def _after_fork_in_child() -> None:
    for one in list(_all):
        one.leave_to_parent()


os.register_at_fork(after_in_child=_after_fork_in_child)
