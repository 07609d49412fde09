"""The messages that readers are given."""

import pytest

from stagecast.domain.events import CustomEvent, StageCompleted, StageUpdated, TokenEmitted
from stagecast.domain.following import Reset, ResetCause, Shown
from stagecast.domain.positions import Position
from stagecast.entrypoints.messages import message

AT = Position(7, 3)


def token(content: str = "b", offset: int = 1, snapshot: bool = False) -> TokenEmitted:
    """A token of the stage `rewrite` of project 123."""
    return TokenEmitted(
        project="123", stage="rewrite", timestamp=1.5, content=content, offset=offset, snapshot=snapshot
    )


def test_token_has_the_fields_of_the_seed_in_its_order() -> None:
    """A token is type, content, full_text, stage, project_id, timestamp; then our id."""
    assert list(message(Shown(token(), AT, "ab")).items()) == [
        ("type", "token"),
        ("content", "b"),
        ("full_text", "ab"),
        ("stage", "rewrite"),
        ("project_id", "123"),
        ("timestamp", 1.5),
        ("id", "7-3"),
    ]


def test_token_in_delta_mode_has_an_offset_and_no_text() -> None:
    """Delta mode replaces `full_text` by `offset`, and marks the whole text."""
    assert message(Shown(token(), AT, "ab"), full_text=False) == {
        "type": "token",
        "content": "b",
        "offset": 1,
        "stage": "rewrite",
        "project_id": "123",
        "timestamp": 1.5,
        "id": "7-3",
    }
    whole = message(Shown(token("ab", 0, snapshot=True), None, "ab"), full_text=False)
    assert (whole["content"], whole["offset"], whole["snapshot"], "id" in whole) == ("ab", 0, True, False)


@pytest.mark.parametrize("full_text", [True, False])
def test_other_messages_are_the_same_in_both_modes(full_text: bool) -> None:
    """Only tokens differ: `done` keeps its text, custom messages pass untouched."""
    done = StageCompleted(project="123", stage="rewrite", timestamp=1.5, full_text="ab", metadata={"tokens_used": 2})
    assert message(Shown(done, None), full_text=full_text) == {
        "type": "done",
        "full_text": "ab",
        "metadata": {"tokens_used": 2},
        "stage": "rewrite",
        "project_id": "123",
        "timestamp": 1.5,
    }
    custom = CustomEvent(project="123", stage="rewrite", timestamp=1.5, message={"type": "cost", "usd": 0.1})
    assert message(Shown(custom, AT), full_text=full_text) == {"type": "cost", "usd": 0.1, "id": "7-3"}
    update = StageUpdated(project="123", stage="rewrite", timestamp=1.5, status="queued")
    assert "progress" not in message(Shown(update, AT), full_text=full_text)


@pytest.mark.parametrize("cause", ["truncated", "epoch", "lost"])
def test_reset_says_why(cause: ResetCause) -> None:
    """A reset carries its cause, and a run and attempt only where there are."""
    reset = Reset(project="123", stage=None, cause=cause)
    assert message(Shown(reset, None)) == {"type": "reset", "project_id": "123", "stage": None, "reason": cause}


def test_reset_of_a_new_attempt_names_it() -> None:
    """A reset by a new attempt says which run and which attempt."""
    reset = Reset(project="123", stage="rewrite", cause="run", run="r", attempt=2)
    assert message(Shown(reset, AT)) == {
        "type": "reset",
        "project_id": "123",
        "stage": "rewrite",
        "reason": "run",
        "run": "r",
        "attempt": 2,
        "id": "7-3",
    }
