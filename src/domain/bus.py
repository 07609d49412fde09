"""The MessageBus port: the only thing that a transport implements, and what it must guarantee.

The guarantees, each a test of the contract suite (`stagecast.entrypoints.testing.contract`):

1. **Order.** Events of a project reach every subscriber in the order of their positions.
2. **No gap.** A subscriber sees every event after its start, or a `Snapshot` with a `reset`. Never silently less,
   also where the last message before a silence was the lost one.
3. **No duplicate.** A batch carries (producer, sequence of its first event). What the log already has is skipped and
   acknowledged. This check comes before any check of run or end: a retried `done` that was applied answers success.
4. **Snapshot, then tail.** `subscribe(topic)` yields a `Snapshot` at position P, then everything after P.
   Recovery is proved or refused, never partial.
5. **Resume.** `subscribe(topic, after=P)` yields what came after P; or a `Snapshot` with a `reset` where P is too old
   or of another epoch. It never replays a superseded run or attempt: a stage starts at its newest opening.
6. **Late joiner.** Its cost is one snapshot, whatever the number of tokens.
7. **Bounded.** The log has a maximum length and everything a time to live. What belongs to a project lives and dies
   together: every write and every renewal refreshes all of it; state without its text counts as lost.
8. **Runs and text** follow the rules of `stagecast.domain.ledger`.
9. **Fan-out.** One bus object uses a constant number of connections, however many subscriptions it has.
10. **Closing** a subscription frees it at once; closing the bus ends every subscription.
11. **Many publishers**, threads and processes. Fork-safe: nothing made before a fork is used after it.
12. **Typed failure.** Only errors of `stagecast.domain.errors` cross the port: BusUnavailable (retry may help),
    EventTooLarge, InvalidEvent, RunSuperseded, InvalidTopic, InvalidPosition.
13. **Lease.** A run whose producers are all dead ends within a bound with StageFailed (reason lease); a living
    producer never loses its run to an outage of the bus.
14. **Cancel** names a run, survives its attempts and touches no other run.
15. **Restore.** After the backend lost data, a receipt's `need` asks the living producers for what they hold, which
    is then restored exactly. What nobody holds is reported lost by a reset, never waited for.

Cancellation: every method may be cancelled by its caller at any await. A cancelled `publish` may have been applied;
sending the very same batch again is always safe.
"""

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol, TypeAlias

from attrs import Factory, field, frozen, validators

from .events import Event
from .positions import Position
from .state import StageState
from .topics import Topic

Need: TypeAlias = Literal["text", "state"]
ResetReason: TypeAlias = Literal["truncated", "epoch"]


_SECONDS = validators.and_(validators.gt(0.0), validators.lt(1e9))


@frozen(kw_only=True)
class Capabilities:
    """What a transport can do. The contract suite checks the declaration."""

    resume: bool = True
    """Keeps a log: subscribing after a position and snapshots work."""
    processes: bool = True
    """Reaches other processes."""
    persistent: bool = False
    """The log outlives the bus object (not necessarily its server)."""


@frozen(kw_only=True)
class BusLimits:
    """Bounds of what a bus keeps, the same words for every transport."""

    log_length: int = field(default=10_000, validator=validators.ge(16))
    """Events a project's log keeps at least until older ones are trimmed (a transport may keep some more)."""
    time_to_live: float = field(default=6 * 3600.0, validator=_SECONDS)
    """Seconds that a project is kept after its last write or renewal."""
    event_bytes: int = field(default=1 << 20, validator=validators.ge(1024))
    """The largest encoded event."""
    lease: float = field(default=15.0, validator=_SECONDS)
    """Seconds without a renewal after which a producer counts as dead."""
    queue_deadline: float = field(default=3600.0, validator=_SECONDS)
    """Seconds that a queued run may wait for its start."""
    events_per_second: float = field(default=math.inf, validator=validators.ge(1000))
    """That one publisher sends, after a burst of as many; more wait with it. Not where the end of its run waits."""


@frozen(kw_only=True)
class Opening:
    """A request to open a run of a stage, or an attempt at it, under a known id (a Celery task id).

    With `queued` the run is only announced: a no-op where the run is known already. Without it an attempt begins:
    the bus numbers it; the same `nonce` gets the same number, another one fences the attempts of `task` before it.
    """

    topic: Topic
    run: str
    task: str
    nonce: str
    producer: str
    queued: Event | None = None


@frozen(kw_only=True)
class Opened:
    """The answer to an `Opening`."""

    run: str
    attempt: int
    """1 for the first execution; 0 for a run that is only queued."""
    position: Position | None
    """The end of the log."""
    cancelled: bool = False
    """The run was cancelled before; an attempt has not begun."""


@frozen(kw_only=True)
class Batch:
    """What one producer sends at once, in order. Without events it renews the lease."""

    topic: Topic
    """One stage."""
    producer: str
    first: int
    """The sequence number of the first event; a producer counts its events from 1."""
    events: tuple[Event, ...] = ()
    run: str | None = None
    """The run that the producer belongs to, as the last receipt told it; None before the first receipt."""
    task: str | None = None
    attempt: int = 0
    """With `task`: the attempt that the producer speaks for."""
    new_run: str = ""
    """A fresh run id, used where an event of the batch opens a run."""
    acknowledged: Position | None = None
    """The position in the producer's last receipt: proves or disproves that the log still has it."""
    release: bool = False
    """Give the lease back after this batch."""

    @property
    def stage(self) -> str:
        """The stage that the batch is for."""
        return self.topic.one_stage


@frozen(kw_only=True)
class Receipt:
    """The answer to a `Batch`."""

    applied: int
    """How many of the batch's events, from its first, are settled: in the log, now or before, or refused for good."""
    position: Position | None
    """The end of the log after this batch; None for a log that has no event yet."""
    run: str | None
    """The run that the producer belongs to now."""
    refused: int = 0
    """How many of the settled events were refused: tokens of another writer, a second end."""
    foreign_text: bool = False
    """Tokens were refused because another producer writes the text."""
    superseded: bool = False
    """A newer run or attempt has taken over: every event is refused, now and later."""
    cancelled: bool = False
    """The run was asked to stop."""
    need: Need | None = None
    """What the producer must send again before the events that were not applied: its text, or all that it holds."""


@frozen(kw_only=True)
class Snapshot:
    """The state of the topic's stages at `position`; whatever is delivered next comes after it."""

    position: Position | None
    """None for a project that has no log."""
    stages: Mapping[str, StageState]
    reset: ResetReason | None = None
    """Why history before this is not continuous with what was delivered or asked for; None for a plain start."""
    time: float = 0.0
    """The backend's clock, in seconds since the epoch, to compare `StageState.ended_at` with."""


@frozen(kw_only=True)
class Published:
    """One event of the log."""

    position: Position
    event: Event


Delivery: TypeAlias = Snapshot | Published


@frozen(kw_only=True)
class Liveness:
    """Which stages of the topic have a run in progress that some producer holds a lease on."""

    active: frozenset[str] = Factory(frozenset)


class Subscription(Protocol):
    """What `subscribe` yields: an async iterator of deliveries that ends when the bus is closed.

    A slow reader costs bounded memory: it is caught up from the log, or by a snapshot. Cancelling a wait for the next
    delivery loses nothing.
    """

    def __aiter__(self) -> AsyncIterator[Delivery]: ...

    async def __anext__(self) -> Delivery: ...

    @property
    def liveness(self) -> Liveness:
        """As of the bus's last look, at most a few seconds ago."""
        ...


class MessageBus(Protocol):
    """Publishes batches into the logs of projects and lets subscribers follow them. See the module's docstring."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def limits(self) -> BusLimits: ...

    async def open_run(self, opening: Opening) -> Opened:
        """Announce a run or begin an attempt. Raises RunSuperseded where a newer run of the stage exists."""
        ...

    async def publish(self, batch: Batch) -> Receipt:
        """Append the batch's events, all or a leading part, atomically. Renews the producer's lease."""
        ...

    async def cancel(self, topic: Topic, run: str) -> bool:
        """Ask `run` of the topic's stage to stop. False where it is not the stage's current run, or is over.

        Producers learn it from their next receipt; a run that no producer holds a lease on ends at once.
        """
        ...

    def subscribe(self, topic: Topic, after: Position | None = None) -> AbstractAsyncContextManager[Subscription]:
        """Follow `topic`. On entry the subscription stands: whatever is published from then on will be delivered."""
        ...

    async def aclose(self) -> None:
        """End every subscription and free every resource. Idempotent."""
        ...


class EventCodec(Protocol):
    """Turns events into the bytes that a transport stores and carries, and back. One for all transports."""

    def encode(self, event: Event) -> bytes:
        """One line of bytes, without a line feed. Raises InvalidEvent."""
        ...

    def decode(self, data: bytes) -> Event:
        """The event. What this version does not understand becomes a CustomEvent; nothing raises."""
        ...
