"""The port of an engine: where a `StoredBus` keeps its projects. Knows no rule of the log.

A project in a store is a head (some kilobytes of bytes that the store does not look into), a log of entries, and a text
for each stage. What changes at once is a `Change`; a store applies all of it or nothing, and only if the head's version
is still the one that the change was made from. That is all that an engine must be able to do.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias

from attrs import frozen

from stagecast.domain.positions import Position

Entry: TypeAlias = tuple[Position, str, bytes]
"""A log entry: position, stage, encoded event (one line)."""


@frozen
class Head:
    """A project as it stands."""

    data: bytes
    version: int
    """Another one after every change; greater than 0."""


@frozen(kw_only=True)
class Change:
    """What is written at once."""

    project: str
    version: int
    """Of the head that this was made from; 0 where there was none."""
    head: bytes
    entries: tuple[Entry, ...] = ()
    """To be appended to the log, in this order."""
    texts: Mapping[str, tuple[bool, str]]
    """By stage: whether its text begins anew, and what is to be appended to it."""
    anew: bool = False
    """The project's log and texts of before are of a life that is over: none of it may be seen again."""
    keep: int
    """Entries that the log keeps at least; older ones may go."""
    expires_at: float
    """When the whole project may be dropped unless it changes again, in seconds since the epoch."""


class LedgerStore(Protocol):
    """One event loop's way to the engine. Every method raises BusUnavailable where the engine cannot be reached.

    A method that is cancelled may have been carried out.
    """

    async def head(self, project: str) -> Head | None:
        """The project's head; None where there is none, or its time is over."""
        ...

    async def commit(self, change: Change) -> bool:
        """Apply `change`; False, and nothing is changed, where the version is another by now."""
        ...

    async def log(self, project: str, after: Position | None, count: int) -> list[Entry]:
        """The first entries after `after` (None: the oldest there are), `count` at the most."""
        ...

    async def texts(self, project: str) -> tuple[Head | None, Mapping[str, str]]:
        """The head, and each stage's text, as of one moment."""
        ...

    def watch(self, project: str, changed: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Call `changed` soon after each change of the project, whoever makes it, while the block lasts.

        On entry every later change is sure to be seen. Too many calls do no harm; missed ones are made good by a look
        at the head every second or so.
        """
        ...

    async def aclose(self) -> None:
        """Free everything. Idempotent."""
        ...
