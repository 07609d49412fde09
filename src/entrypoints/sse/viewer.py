"""One connection's place in a project: what it wished for, how far it is, and how it ends. Knows no HTTP."""

from collections.abc import Callable
from typing import Protocol

from attrs import frozen

from stagecast.domain.errors import StagecastError
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic


class UnknownRun(StagecastError):
    """The run that a viewer asked for is not the current run of its stage."""


class Finished(StagecastError):
    """A viewer came back who has already seen the end, and nothing newer has begun."""


class TooManyViewers(StagecastError):
    """A limit of connections is reached; `limit` names it."""

    def __init__(self, limit: str, detail: str) -> None:
        super().__init__(detail)
        self.limit = limit


class Draining(StagecastError):
    """The server is about to stop."""


@frozen(kw_only=True)
class ViewRequest:
    """What a connection wishes to see."""

    topic: Topic
    delta: bool = False
    """Tokens as `content` and `offset`, without the whole text."""
    after: Position | None = None
    """The last position that the client has seen."""
    is_cleared: bool = False
    """It was told of a loss since, and shows nothing of what came before."""
    malformed: bool = False
    """The client named a position that is none: it has seen something, nobody knows what."""
    latest: bool = False
    """Show the newest run, however long ago it ended."""
    run: str | None = None
    """Show this run only."""
    principal: str | None = None
    """Who it is; None and "" stand for nobody in particular."""
    address: str | None = None
    """Where the client is, as connections are counted; None where nobody can tell."""
    expires_at: float | None = None
    """When the connection must end, in seconds since the epoch."""


class Source(Protocol):
    """Where a viewer gets its frames from: the channel of its project."""

    revision: int
    """Another one whenever there may be news for somebody."""

    def news(self, viewer: "Viewer") -> bytes:
        """The frames that the viewer has still to be sent; moves it on."""
        ...


class Carrier(Protocol):
    """What takes a viewer's frames to its client: the response of its connection."""

    def carry(self) -> None:
        """Take what there is, which may be nothing, now or as soon as the client has taken what it was sent."""
        ...

    def cut(self, when: float) -> None:
        """Close the connection at `when` in the loop's time at the latest, whatever the client has taken."""
        ...


class Viewer:
    """A cursor into the project's recent events, and the few frames that are for this viewer alone."""

    __slots__ = (
        "_own",
        "_revision",
        "_source",
        "beat_at",
        "carrier",
        "counted",
        "cursor",
        "gone",
        "is_beat_due",
        "life",
        "lost_at",
        "on_leave",
        "over",
        "position",
        "request",
        "sending_since",
        "since",
        "topic",
        "whole",
    )

    def __init__(self, source: Source, request: ViewRequest, now: float, on_leave: Callable[["Viewer"], None]) -> None:
        self.request = request
        self.topic = request.topic
        self.whole = not request.delta
        """Whether tokens carry the whole text."""
        self.since = now
        self.on_leave = on_leave
        self.cursor = 0
        self.life = 0
        """Which life of the project's fold the cursor belongs to."""
        self.position: Position | None = None
        """The last position that the client was told."""
        self.is_beat_due = False
        self.beat_at = now
        """When the next heartbeat is due, in the loop's time."""
        self.counted = False
        self.over = False
        """Whether nothing comes after what `take` yields next."""
        self.gone = False
        self.lost_at: float | None = None
        """When what the viewer waits for counts as lost, in the loop's time."""
        self.sending_since: float | None = None
        """Since when the client has not taken what it was sent last, in the loop's time; None where it has."""
        self.carrier: Carrier | None = None
        """None until the response begins."""
        self._source = source
        self._own: list[bytes] = []
        self._revision = -1

    def take(self) -> bytes:
        """What is to be sent now; empty where there is nothing, and after the end."""
        own = b""
        if self._own:
            own = b"".join(self._own)
            self._own.clear()
        if self.over or self._revision == self._source.revision:
            return own
        self._revision = self._source.revision
        return own + self._source.news(self) if own else self._source.news(self)

    def notify(self) -> None:
        """There may be something to take, or the end has come."""
        if self.carrier is not None:
            self.carrier.carry()

    def beat(self, next_at: float) -> None:
        """Let a heartbeat come after what there is to take; the one after that is due at `next_at`."""
        self.beat_at, self.is_beat_due = next_at, True
        self._revision = -1
        self.notify()

    def tell(self, *frames: bytes) -> None:
        """Send `frames`, which are for this viewer alone, before anything else."""
        self._own += frames

    def finish(self, *farewell: bytes) -> None:
        """End with `farewell`, and without what was not yet taken."""
        self._own = list(farewell)
        self.over = True
        self.notify()

    def abandon(self, when: float) -> None:
        """End at `when` in the loop's time at the latest, even where the client takes nothing. Idempotent."""
        self.finish(*self._own)
        if self.carrier is not None:
            self.carrier.cut(when)

    def leave(self) -> None:
        """The client has gone; nothing more is made for it. Idempotent."""
        if not self.gone:
            self.gone = True
            self.finish()
            self.carrier = None
            self.on_leave(self)
