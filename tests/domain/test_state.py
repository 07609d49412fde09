"""The fold: a snapshot and its tail show what all events show; nothing superseded comes back."""

from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.domain.events import (
    CustomEvent,
    Event,
    ItemCompleted,
    PipelineCompleted,
    ProgressReported,
    RunOpened,
    StageCompleted,
    StageFailed,
    StageRefreshed,
    StageUpdated,
    TokenEmitted,
)
from stagecast.domain.positions import Position
from stagecast.domain.state import StageState
from stagecast.domain.text import units


def make(kind: type[Event], **fields: object) -> Event:
    return kind(project="1", stage="rewrite", timestamp=1.0, **fields)  # type: ignore[arg-type]


def token(content: str, offset: int, *, snapshot: bool = False) -> Event:
    return make(TokenEmitted, content=content, offset=offset, snapshot=snapshot)


def opened(run: str, attempt: int = 1, *, fresh: bool = True) -> Event:
    return make(RunOpened, run=run, attempt=attempt, fresh=fresh)


def done(full_text: str | None = None) -> Event:
    return make(StageCompleted, full_text=full_text)


def folded(events: list[Event], state: StageState | None = None, start: int = 0) -> tuple[StageState, list[Event]]:
    """The state after `events`, and what they showed."""
    state = state or StageState(project="1", stage="rewrite")
    shown = [state.apply(Position(7, start + n), event) for n, event in enumerate(events)]
    return state, [event for event in shown if event is not None]


def view(state: StageState) -> dict[str, object]:
    return {
        "run": (state.run, state.attempt, state.began, state.opened, state.ended, state.pipeline_ended),
        "text": (state.text, state.length, state.text_began),
        "slots": state.slots,
    }


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """What a log of one stage can hold: runs, attempts, texts begun anew, items, ends."""
    events, length, number = list[Event](), 0, 0
    for kind in draw(st.lists(st.sampled_from("raatttttssspiifdec"), max_size=40)):
        content = draw(st.sampled_from(["a", "文", "😀b", ""]))
        match kind:
            case "r":
                number += 1
                events.append(opened(f"run{number}"))
                length = 0
            case "a":
                fresh = draw(st.booleans()) or number == 0
                events.append(opened(f"run{max(number, 1)}", 2, fresh=fresh))
                number = max(number, 1)
                length = 0 if fresh else length
            case "t":
                if draw(st.integers(0, 9)) == 0:
                    length = 0
                    events.append(token(content, 0, snapshot=draw(st.booleans())))
                else:
                    events.append(token(content, length))
                length += units(content)
            case "s":
                status = draw(st.sampled_from(["processing", "completed", "skipped", "queued"]))
                events.append(make(StageUpdated, status=status))
            case "p":
                events.append(make(ProgressReported, current=1, total=2, progress=50))
            case "i":
                events.append(make(ItemCompleted, item_type="image", sequence_number=draw(st.integers(0, 2))))
            case "f":
                events.append(make(StageFailed, error="boom"))
            case "d":
                events.append(done(draw(st.sampled_from([None, "other text"]))))
            case "e":
                events.append(make(PipelineCompleted))
            case _:
                events.append(make(CustomEvent, message={"type": "custom"}))
    return events


@given(histories(), st.data())
def test_a_snapshot_and_its_tail_are_the_whole(events: list[Event], data: st.DataObject) -> None:
    """Wherever a newcomer is given the state, what follows leads it to the state of all events."""
    cut = data.draw(st.integers(0, len(events)))
    whole, _ = folded(events)
    snapshot, _ = folded(events[:cut])
    late, _ = folded(events[cut:], deepcopy(snapshot), cut)
    assert view(late) == view(whole)


@given(histories(), st.data())
def test_what_is_superseded_can_be_left_out(events: list[Event], data: st.DataObject) -> None:
    """A resuming reader who is not told what was overtaken reaches the same text, run, items and outcome."""
    cut = data.draw(st.integers(0, len(events)))
    whole, _ = folded(events)
    back, _ = folded(events[:cut])
    for n, event in enumerate(events[cut:], cut):
        if not whole.is_superseded(Position(7, n), event):
            back.apply(Position(7, n), event)
    assert view(back) == view(whole)


@given(histories())
def test_tokens_alone_rebuild_the_text(events: list[Event]) -> None:
    """Whoever appends the shown tokens, and starts over at offset 0 and at openings, has the text."""
    state, text = StageState(project="1", stage="rewrite"), ""
    for n, event in enumerate(events):
        shown = state.apply(Position(7, n), event)
        match shown:
            case RunOpened(fresh=True):
                text = ""
            case TokenEmitted(offset=0):
                text = shown.content
            case TokenEmitted():
                assert shown.offset == units(text)
                text += shown.content
        assert state.text == text
        assert state.length == units(text)


@given(histories())
def test_a_replay_leads_to_the_same_view(events: list[Event]) -> None:
    """Folding the replay gives a newcomer's state the same text and slots."""
    whole, _ = folded(events)
    replayed, _ = folded(list(whole.replay()))
    assert replayed.text == whole.text
    assert replayed.slots.keys() == whole.slots.keys()
    for slot, event in whole.slots.items():
        if not isinstance(event, StageCompleted):
            assert replayed.slots[slot] == event


def test_a_replay_is_in_a_viewers_order() -> None:
    """Status, one token with the whole text, items by type and number, progress, outcome, refresh, pipeline."""
    state, _ = folded(
        [
            opened("run"),
            make(ItemCompleted, item_type="video", sequence_number=2),
            make(ItemCompleted, item_type="image", sequence_number=10),
            make(ItemCompleted, item_type="image", sequence_number=9),
            make(ProgressReported, current=1, total=2, progress=50),
            token("te", 0),
            token("xt", 2),
            make(StageUpdated, status="processing"),
            done(),
            make(StageRefreshed),
            make(PipelineCompleted),
        ]
    )
    replay = list(state.replay())
    assert [event.type for event in replay] == [
        *("stage_update", "token", "item_completed", "item_completed", "item_completed", "progress"),
        *("done", "stage_completed", "pipeline_done"),
    ]
    assert [getattr(event, "sequence_number", None) for event in replay[2:5]] == [9, 10, 2]
    text = replay[1]
    assert isinstance(text, TokenEmitted)
    assert (text.content, text.offset, text.snapshot) == ("text", 0, True)
    outcome = replay[6]
    assert isinstance(outcome, StageCompleted)
    assert outcome.full_text == "text"


def test_done_without_a_text_shows_the_stages() -> None:
    """`full_text` that was left out on the way is put back; one that was sent is kept."""
    _, shown = folded([opened("run"), token("text", 0), done()])
    assert shown[-1].full_text == "text"  # type: ignore[attr-defined]
    _, shown = folded([opened("run"), token("text", 0), done("other")])
    assert shown[-1].full_text == "other"  # type: ignore[attr-defined]


def test_a_whole_text_is_shown_as_its_rest() -> None:
    """A snapshot token that continues what was shown is shown as what is new, one that repeats it not at all."""
    state, shown = folded([opened("run"), token("😀te", 0), token("😀text", 0, snapshot=True)])
    assert (shown[-1].content, shown[-1].offset) == ("xt", 4)  # type: ignore[attr-defined]
    assert state.apply(Position(7, 9), token("😀text", 0, snapshot=True)) is None
    replaced = state.apply(Position(7, 10), token("other", 0, snapshot=True))
    assert isinstance(replaced, TokenEmitted)
    assert (replaced.content, replaced.offset) == ("other", 0)
    anew = state.apply(Position(7, 11), token("oth", 0))
    assert anew == token("oth", 0)
    assert state.text == "oth"


@pytest.mark.parametrize("offset", [1, 3, 100])
def test_a_token_that_does_not_fit_is_an_error(offset: int) -> None:
    """A hole in a text is never papered over."""
    state, _ = folded([opened("run"), token("ab", 0)])
    with pytest.raises(ValueError, match="not continuous"):
        state.apply(Position(7, 9), token("x", offset))
    assert state.text == "ab"


def test_a_new_run_begins_anew_and_an_attempt_keeps_items() -> None:
    """Another run drops everything; another attempt drops the outcome, and the text where it is fresh."""
    first = [opened("a"), token("text", 0), make(ItemCompleted, item_type="image", sequence_number=1), done()]
    state, _ = folded([*first, opened("a", 2, fresh=False)])
    assert (state.text, set(state.slots), state.in_progress, state.attempt) == ("text", {"item:image:1"}, True, 2)
    state, _ = folded([*first, opened("a", 2)])
    assert (state.text, set(state.slots), state.began) == ("", {"item:image:1"}, Position(7, 0))
    state, _ = folded([*first, make(PipelineCompleted), opened("b")])
    assert (state.text, state.slots, state.began, state.pipeline_ended) == ("", {}, Position(7, 5), None)


def test_an_opening_in_another_epoch_begins_anew() -> None:
    """After a loss a run's state is what is restored, not what an older state happened to hold."""
    state, _ = folded([opened("a"), make(ItemCompleted, item_type="image", sequence_number=1), token("x", 0)])
    state.apply(Position(8, 0), opened("a"))
    assert (state.slots, state.text, state.began) == ({}, "", Position(8, 0))


def test_ends() -> None:
    """`done` and `error` end a run, a final status only where no run is open; a live end has no backend time yet."""
    state, _ = folded([make(StageUpdated, status="skipped")])
    assert (state.ended, state.ended_at) == (Position(7, 0), None)
    state, _ = folded([opened("a"), make(StageUpdated, status="completed")])
    assert state.ended is None
    state, _ = folded([opened("a"), make(StageFailed, error="x")])
    assert state.ended == Position(7, 1)
    state, _ = folded(
        [opened("a"), done(), make(StageRefreshed), make(ProgressReported, current=1, total=1, progress=100)]
    )
    assert state.ended == Position(7, 1)


def test_text_until_a_length() -> None:
    """A viewer behind the newest token is shown the text up to its own."""
    state, _ = folded([opened("a"), token("a😀b", 0)])
    assert [state.text_until(n) for n in (0, 1, 2, 3, 4, 99)] == ["", "a", "a", "a😀", "a😀b", "a😀b"]


def test_text_of_many_pieces_is_linear() -> None:
    """A hundred thousand tokens fold without copying the text each time."""
    state = StageState(project="1", stage="rewrite")
    for n in range(100_000):
        state.apply(Position(7, n), token("x", n))
    assert state.length == len(state.text) == 100_000
