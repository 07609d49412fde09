"""The recent events of a project, and what they are condensed to for who comes back."""

import pytest

from stagecast.domain.bus import Published
from stagecast.domain.events import Event, PipelineCompleted, RunOpened, StageCompleted, StageUpdated, TokenEmitted
from stagecast.domain.following import Reset, Shown, View
from stagecast.domain.positions import Position
from stagecast.domain.resuming import condensed, is_overtaken, shown_again
from stagecast.entrypoints.sse.recent import EVENT_BYTES, EVENTS, WHOLE_BYTES, Recent, RecentEvents


def at(n: int) -> Position:
    return Position(7, n)


def token(content: str, offset: int, stage: str = "s") -> TokenEmitted:
    return TokenEmitted(project="p", stage=stage, timestamp=1.0, content=content, offset=offset)


def update(status: str = "processing", stage: str = "s") -> StageUpdated:
    return StageUpdated(project="p", stage=stage, timestamp=1.0, status=status)


def opened(run: str, *, fresh: bool = True, stage: str = "s") -> RunOpened:
    return RunOpened(project="p", stage=stage, timestamp=1.0, run=run, attempt=1, fresh=fresh)


def done() -> StageCompleted:
    return StageCompleted(project="p", stage="s", timestamp=1.0, full_text=None)


def recent(n: int, content: str = "x", stage: str = "s", whole: bytes | None = None) -> Recent:
    return Recent(Shown(token(content, 0, stage), at(n)), at(n), stage, whole=whole)


def folded(*events: Event) -> tuple[View, list[Published]]:
    """A view that has folded `events`, and those as they are read from the log again."""
    view = View("p")
    published = [Published(position=at(n), event=event) for n, event in enumerate(events)]
    for one in published:
        view.apply(one, 0.0)
    return view, published


def test_a_cursor_stands_after_what_was_seen() -> None:
    """Between a cursor and the end is what came after a position, also one that showed nothing."""
    kept = RecentEvents(at(1))
    for n in (2, 3, 6):
        kept.append(recent(n))
    for position, expected in ((1, [2, 3, 6]), (2, [3, 6]), (4, [6]), (6, []), (9, [])):
        found = kept.between(kept.after(at(position)), kept.end)
        assert [one.position.n for one in found] == expected
    assert kept.covers(at(1))
    assert not kept.covers(at(0))
    assert not kept.covers(Position(6, 5))
    assert RecentEvents(None).covers(at(0))


def test_the_oldest_go_when_there_are_too_many() -> None:
    """By number: what is kept no more is covered no more."""
    kept = RecentEvents(at(0))
    for n in range(1, EVENTS + 11):
        kept.append(recent(n))
    assert kept.end - kept.first == EVENTS
    assert kept.start == at(10)
    assert kept.covers(at(10))
    assert not kept.covers(at(9))
    assert kept.missed(9, None)
    assert not kept.missed(10, None)


def test_the_oldest_go_when_they_are_too_large() -> None:
    """By size; the newest stays however large it is."""
    kept = RecentEvents(at(0))
    for n in range(1, 11):
        kept.append(recent(n, "x" * (EVENT_BYTES // 10)))
    assert kept.end - kept.first < 10
    kept.append(recent(11, "x" * EVENT_BYTES))
    assert kept.end - kept.first == 1


def test_whole_frames_go_before_their_events() -> None:
    """Frames with the whole text are bounded on their own; the event stays."""
    kept = RecentEvents(at(0))
    for n in range(1, 6):
        kept.append(recent(n, whole=b"x" * (WHOLE_BYTES // 3)))
    found = list(kept.between(0, kept.end))
    assert [one.whole is None for one in found] == [True, True, False, False, False]
    kept.append(recent(6, whole=b"x" * WHOLE_BYTES * 2))
    assert [one.whole is None for one in kept.between(0, kept.end)] == [True] * 5 + [False]


def test_only_a_stage_that_lost_events_has_missed_them() -> None:
    """Viewers of a quiet stage are not behind, whatever happens in others."""
    kept = RecentEvents(at(0))
    kept.append(recent(1, stage="quiet"))
    for n in range(2, EVENTS + 3):
        kept.append(recent(n, stage="busy"))
    assert kept.missed(0, "quiet")
    assert not kept.missed(1, "quiet")
    assert not kept.missed(0, "never")
    assert kept.missed(1, "busy")
    assert not kept.missed(2, "busy")
    kept.restart(at(5000))
    assert (kept.start, kept.end - kept.first) == (at(5000), 0)
    assert not kept.missed(kept.end, "busy")


def test_consecutive_tokens_become_one() -> None:
    """Each run of tokens of a stage, broken by whatever else is shown; the text is the one at that point."""
    events = [
        opened("r"),
        token("a", 0),
        token("😀", 1),
        update(),
        token("b", 3),
        token("o", 0, "other"),
        token("c", 4),
        token("d", 5),
    ]
    view, published = folded(*events)
    shown = [one for one in (shown_again(view, each) for each in published[1:]) if one]
    found = [
        (one.content.content, one.content.offset, one.text, one.position.n)
        for one in condensed(view, shown)
        if isinstance(one.content, TokenEmitted) and one.position
    ]
    assert found == [("a😀", 0, "a😀", 2), ("b", 3, "a😀b", 4), ("o", 0, "o", 5), ("cd", 4, "a😀bcd", 7)]


def test_what_was_overtaken_is_not_shown_again() -> None:
    """Of an older run nothing, of an older text no token, of a reopened run no end; the newest reset is shown."""
    events = [
        opened("old"),
        update(),
        token("x", 0),
        done(),
        opened("new"),
        update("again"),
        token("y", 0),
        opened("new"),
        token("z", 0),
        done(),
        opened("new", fresh=False),
        token("!", 1),
    ]
    view, published = folded(*events)
    shown = [one for one in (shown_again(view, each) for each in published) if one]
    found = [(type(one.content).__name__, one.position.n) for one in shown if one.position]
    assert found == [
        ("Reset", 4),
        ("StageUpdated", 5),
        ("Reset", 7),
        ("TokenEmitted", 8),
        ("TokenEmitted", 11),
    ]


def test_an_end_read_again_has_the_text() -> None:
    """`done` travels without a copy of the text and is shown with it."""
    view, published = folded(opened("r"), token("ab", 0), done())
    shown = shown_again(view, published[2])
    assert shown is not None
    assert isinstance(shown.content, StageCompleted)
    assert shown.content.full_text == "ab"


@pytest.mark.parametrize("stage", [None, "unknown"])
def test_what_belongs_to_no_known_stage_is_never_overtaken(stage: str | None) -> None:
    """A reset of everything, or of a stage that is gone."""
    view, _ = folded(opened("r"))
    assert not is_overtaken(view, Shown(Reset(project="p", stage=stage, cause="run"), at(0)))


def test_an_end_of_the_pipeline_before_a_new_run_is_overtaken() -> None:
    """A client that comes back and closes on it would miss the new run."""
    ended = PipelineCompleted(project="p", stage="pipeline", timestamp=1.0)
    view, published = folded(opened("r"), done(), ended)
    assert shown_again(view, published[2]) is not None
    view, published = folded(opened("r"), done(), ended, opened("s"))
    assert shown_again(view, published[2]) is None
    view, published = folded(opened("r"), done(), ended, opened("s"), done(), ended)
    assert shown_again(view, published[2]) is None
    assert shown_again(view, published[5]) is not None
