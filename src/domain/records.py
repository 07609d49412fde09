"""What the log remembers of a stage, of its producers and of their leases. The rules that use it are the ledger's."""

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from attrs import Factory, define, field

from .events import Event
from .positions import Position
from .state import StageState

Decode: TypeAlias = Callable[[bytes], Event]

PAST_RUNS = 16
"""How many superseded runs a stage remembers, so that a redelivery of one does not take the stage back."""


@define
class TaskRecord:
    """A task of a run: the number and nonce of its newest attempt; the nonce is empty where a loss was restored."""

    attempt: int
    nonce: str


@define
class ProducerRecord:
    """A producer: its last settled sequence number, its run, and when it was last heard of, in microseconds."""

    sequence: int
    run: str | None
    seen: int


@define
class Lease:
    """A producer's sign of life: `beat` changes with each renewal."""

    run: str
    beat: int


@define
class StageRecord:
    """A stage. Fields that a snapshot shows have their meaning from `stagecast.domain.state.StageState`."""

    run: str | None = None
    attempt: int = 0
    began: Position | None = None
    opened: Position | None = None
    text_began: Position | None = None
    ended: Position | None = None
    ended_at: float | None = None
    pipeline_ended: Position | None = None
    ender: str | None = None
    """The producer that ended the run: only it, or a new one, opens the next."""
    presumed_dead: bool = False
    """The run was ended for want of a sign of life: one from its producers opens it again."""
    restored: Position | None = None
    """Where a producer that restored the run after a loss had been acknowledged before; None for a run begun anew."""
    cancelled: bool = False
    queued_until: int | None = None
    """Until when somebody must begin or go on, in microseconds; None where somebody does."""
    writer: str | None = None
    """The producer that writes the text, and the task that it works for."""
    writer_task: str | None = None
    length: int = 0
    text: list[str] = Factory(list)
    slots: dict[str, bytes] = Factory(dict)
    tasks: dict[str, TaskRecord] = Factory(dict)
    leases: dict[str, Lease] = Factory(dict)
    """By producer."""
    past: deque[str] = field(factory=lambda: deque(maxlen=PAST_RUNS))

    @property
    def in_progress(self) -> bool:
        """Whether a run is open."""
        return self.run is not None and self.ended is None

    def clear_text(self, position: Position) -> None:
        """Begin the text anew at `position`."""
        self.text.clear()
        self.length = 0
        self.writer = self.writer_task = None
        self.text_began = position

    def state(self, project: str, name: str, decode: Decode) -> StageState:
        """What a late joiner is given of it."""
        state = StageState(
            project=project,
            stage=name,
            run=self.run,
            attempt=self.attempt,
            began=self.began,
            opened=self.opened,
            text_began=self.text_began,
            slots={slot: decode(data) for slot, data in self.slots.items()},
            ended=self.ended,
            ended_at=self.ended_at,
            pipeline_ended=self.pipeline_ended,
        )
        state.text = "".join(self.text)
        return state
