"""What each event opens, ends and leaves behind in a stage's state."""

import pytest

from stagecast.domain.events import (
    CustomEvent,
    Event,
    ItemCompleted,
    PipelineCompleted,
    PipelineFailed,
    ProgressReported,
    RunOpened,
    StageCompleted,
    StageFailed,
    StageRefreshed,
    StageUpdated,
    TokenEmitted,
    ends_run,
    opens_run,
    slot_of,
)


def token(offset: int) -> TokenEmitted:
    return TokenEmitted(project="1", stage="rewrite", timestamp=0.0, content="x", offset=offset)


def update(status: str) -> StageUpdated:
    return StageUpdated(project="1", stage="rewrite", timestamp=0.0, status=status)


def item(kind: str, number: int) -> ItemCompleted:
    return ItemCompleted(project="1", stage="rewrite", timestamp=0.0, item_type=kind, sequence_number=number)


CASES = {
    "first token": (token(0), True, False, None),
    "later token": (token(1), False, False, None),
    "processing": (update("processing"), True, False, "status"),
    "queued": (update("queued"), True, False, "status"),
    "retrying": (update("retrying"), True, False, "status"),
    "completed": (update("completed"), False, False, "status"),
    "failed": (update("failed"), False, False, "status"),
    "skipped": (update("skipped"), False, False, "status"),
    "progress": (
        ProgressReported(project="1", stage="rewrite", timestamp=0.0, current=1, total=2, progress=50),
        False,
        False,
        "progress",
    ),
    "image": (item("image", 3), False, False, "item:image:3"),
    "video": (item("video", 3), False, False, "item:video:3"),
    "done": (StageCompleted(project="1", stage="rewrite", timestamp=0.0, full_text=None), False, True, "outcome"),
    "error": (StageFailed(project="1", stage="rewrite", timestamp=0.0, error="x"), False, True, "outcome"),
    "stage_completed": (StageRefreshed(project="1", stage="rewrite", timestamp=0.0), False, False, "refreshed"),
    "pipeline_done": (PipelineCompleted(project="1", stage="rewrite", timestamp=0.0), False, False, "pipeline"),
    "pipeline_error": (
        PipelineFailed(project="1", stage="rewrite", timestamp=0.0, error="x"),
        False,
        False,
        "pipeline",
    ),
    "run_opened": (
        RunOpened(project="1", stage="rewrite", timestamp=0.0, run="r", attempt=1, fresh=True),
        False,
        False,
        None,
    ),
    "custom": (CustomEvent(project="1", stage="rewrite", timestamp=0.0, message={"type": "x"}), False, False, None),
}


@pytest.mark.parametrize("name", CASES)
def test_what_an_event_does(name: str) -> None:
    """Which events open a run, which end one, and which slot of the state holds them."""
    event, opens, ends, slot = CASES[name]
    assert (opens_run(event), ends_run(event), slot_of(event)) == (opens, ends, slot)


def test_events_are_immutable_and_compared_by_value() -> None:
    """An event cannot be changed once it is made; two of the same content are equal."""
    assert token(0) == token(0)
    with pytest.raises(AttributeError):
        token(0).content = "y"  # type: ignore[misc]


def test_types_are_told_apart_by_their_tag() -> None:
    """Every type has a wire tag of its own."""
    tags = [cls.type for cls in Event.__subclasses__() if cls is not CustomEvent]
    assert len(tags) == len(set(tags)) == 10
    assert all(tags)
