"""What can happen in a stage. Each event is immutable; `type` is its tag on the wire (the seed's specification)."""

from collections.abc import Mapping
from typing import ClassVar, Literal, TypeAlias, get_args

from attrs import Factory, frozen

JSON: TypeAlias = "str | int | float | bool | None | list[JSON] | dict[str, JSON]"
Metadata: TypeAlias = Mapping[str, JSON]
FailureReason: TypeAlias = Literal["exception", "lease", "cancelled", "timeout"]

FAILURE_REASONS: tuple[str, ...] = get_args(FailureReason)
FINAL_STATUSES = frozenset({"completed", "failed", "skipped"})


def _nothing() -> dict[str, JSON]:
    return {}


@frozen(kw_only=True)
class Event:
    """What every event carries."""

    project: str
    stage: str
    timestamp: float
    """Seconds since the epoch, by the producer's clock."""
    headers: Mapping[str, str] = Factory(dict)
    """Free text pairs beside the message, such as a trace context."""
    extra: Metadata = Factory(_nothing)
    """Message fields that this version does not know; they pass through untouched."""

    type: ClassVar[str] = ""


@frozen(kw_only=True)
class TokenEmitted(Event):
    """A piece of generated text."""

    type: ClassVar[str] = "token"
    content: str
    offset: int
    """UTF-16 code units of the stage's text before `content`. 0 begins the text anew."""
    snapshot: bool = False
    """`content` is the whole text so far (at offset 0); applying it twice is harmless."""


@frozen(kw_only=True)
class StageUpdated(Event):
    """A change of a stage's status. `queued` and `retrying` are statuses too; a final status opens no run."""

    type: ClassVar[str] = "stage_update"
    status: str
    progress: float | None = None
    """Percent, 0 to 100."""
    message: str | None = None
    retry_count: int | None = None
    """With status `retrying`: how many retries there have been, this one included."""

    @property
    def is_final(self) -> bool:
        """Whether the status says that the stage is over."""
        return self.status in FINAL_STATUSES


@frozen(kw_only=True)
class ProgressReported(Event):
    """Progress through a batch of items."""

    type: ClassVar[str] = "progress"
    current: float | None
    total: float | None
    progress: int | None
    """Percent, 0 to 100: `int(current / total * 100)`, 0 where total is 0."""
    item_name: str | None = None


@frozen(kw_only=True)
class ItemCompleted(Event):
    """One item of a batch (an image, a camera move, a video) is ready."""

    type: ClassVar[str] = "item_completed"
    item_type: str
    sequence_number: int
    metadata: Metadata | None = None


@frozen(kw_only=True)
class StageCompleted(Event):
    """The run has succeeded. `full_text` None stands for the text of the stage's tokens."""

    type: ClassVar[str] = "done"
    full_text: str | None
    metadata: Metadata | None = None


@frozen(kw_only=True)
class StageFailed(Event):
    """The run has failed for good."""

    type: ClassVar[str] = "error"
    error: str
    retry_count: int = 0
    reason: FailureReason = "exception"


@frozen(kw_only=True)
class StageRefreshed(Event):
    """Viewers should refresh what they show of the stage. Not an end."""

    type: ClassVar[str] = "stage_completed"
    metadata: Metadata | None = None


@frozen(kw_only=True)
class PipelineCompleted(Event):
    """All stages of the project are done: ends the project's stream."""

    type: ClassVar[str] = "pipeline_done"
    metadata: Metadata | None = None


@frozen(kw_only=True)
class PipelineFailed(Event):
    """The pipeline of the project has failed: ends the project's stream."""

    type: ClassVar[str] = "pipeline_error"
    error: str
    metadata: Metadata | None = None


@frozen(kw_only=True)
class RunOpened(Event):
    """A run, or a new attempt at it, begins here. The bus itself writes this into the log; nobody publishes it.

    Where `run` is another than the stage's before, all state of the stage begins anew.
    """

    type: ClassVar[str] = "run_opened"
    run: str
    attempt: int
    fresh: bool
    """The text begins anew (a new attempt of the task that wrote it, or a new run)."""


@frozen(kw_only=True)
class CustomEvent(Event):
    """A message of a type that stagecast does not know, passed through untouched."""

    message: Metadata


PIPELINE = "pipeline"
"""The slot of the events that end a project's stream."""


def slot_of(event: Event) -> str | None:
    """The place in a stage's state that holds `event` until another takes it; None for what state does not keep.

    A stage's snapshot is its text and the last event of each slot, so this function decides what a late joiner sees.
    """
    match event:
        case StageUpdated():
            return "status"
        case ProgressReported():
            return "progress"
        case ItemCompleted():
            return f"item:{event.item_type}:{event.sequence_number}"
        case StageCompleted() | StageFailed():
            return "outcome"
        case StageRefreshed():
            return "refreshed"
        case PipelineCompleted() | PipelineFailed():
            return PIPELINE
        case _:
            return None


def opens_run(event: Event) -> bool:
    """Whether a plain publisher's `event` opens a run where none is in progress."""
    match event:
        case TokenEmitted():
            return event.offset == 0
        case StageUpdated():
            return not event.is_final
        case _:
            return False


def ends_run(event: Event) -> bool:
    """Whether `event` ends the run it belongs to."""
    return isinstance(event, StageCompleted | StageFailed)
