"""One fold of a project for any number of viewers: what each event shows, and where it ends."""

from stagecast.domain.bus import Snapshot
from stagecast.domain.events import (
    ItemCompleted,
    PipelineCompleted,
    PipelineFailed,
    StageRefreshed,
    StageUpdated,
)
from stagecast.domain.following import GRACE, Reset, View
from stagecast.domain.positions import Position
from stagecast.domain.state import StageState
from tests.domain.viewing import OTHER, PROJECT, STAGE, done, make, opened, token, told, viewed


class TestView:
    """One fold for any number of viewers."""

    def test_events_are_shown_with_their_position_and_text(self) -> None:
        """A token comes with the whole text up to and with it."""
        _, shown = viewed(opened("a"), token("te", 0), token("xt", 2), done())
        assert [(one.position, one.text) for one in shown] == [
            (Position(7, 1), "te"),
            (Position(7, 2), "text"),
            (Position(7, 3), None),
        ]
        assert shown[-1].content.full_text == "text"  # type: ignore[union-attr]

    def test_a_first_opening_is_no_message(self) -> None:
        """Nothing was shown before, so nothing is reset."""
        _, shown = viewed(opened("a"), make(StageUpdated, status="processing"))
        assert told(shown) == ["status:processing"]

    def test_a_new_run_is_a_reset(self) -> None:
        """So is a new attempt that begins the text anew; one that goes on is not."""
        _, shown = viewed(
            opened("a"), token("x", 0), opened("b"), token("y", 0), opened("b", 2), opened("b", 3, fresh=False)
        )
        assert told(shown) == ["x", "reset:run", "y", "reset:run"]
        resets = [one.content for one in shown if isinstance(one.content, Reset)]
        assert [(reset.stage, reset.run, reset.attempt) for reset in resets] == [
            ("rewrite", "b", 1),
            ("rewrite", "b", 2),
        ]

    def test_a_repeated_whole_text_shows_nothing(self) -> None:
        """A restored text that viewers have seen already is no message; one that is longer shows its rest."""
        _, shown = viewed(opened("a"), token("ab", 0), token("ab", 0, snapshot=True), token("abc", 0, snapshot=True))
        assert [(one.content.content, one.text) for one in shown] == [("ab", "ab"), ("c", "abc")]  # type: ignore[union-attr]

    def test_stages_end_with_their_run(self) -> None:
        """A stage's end is its run's, until the next run begins."""
        view, _ = viewed(opened("a"), done())
        assert view.end(STAGE) == Position(7, 1)
        assert view.end(OTHER) is None
        view, _ = viewed(opened("a"), done(), opened("b"))
        assert view.end(STAGE) is None

    def test_projects_end_with_their_pipeline(self) -> None:
        """Stages that end do not end the project's stream; a run that begins after the pipeline's end reopens it."""
        view, _ = viewed(opened("a"), done())
        assert view.end(PROJECT) is None
        pipeline = make(PipelineCompleted, stage="pipeline")
        view, _ = viewed(opened("a"), done(), pipeline)
        assert view.end(PROJECT) == Position(7, 2)
        view, _ = viewed(opened("a"), done(), pipeline, opened("b"))
        assert view.end(PROJECT) is None
        view, _ = viewed(opened("a"), done(), pipeline, opened("b"), done(), pipeline)
        assert view.end(PROJECT) == Position(7, 5)

    def test_progress_and_waiting(self) -> None:
        """A run is in progress until its end, and waits while its last status says so."""
        view, _ = viewed(opened("a"), make(StageUpdated, status="queued"), opened("b", stage="images"))
        assert (view.in_progress(STAGE), view.is_waiting(STAGE)) == (True, True)
        assert (view.in_progress(OTHER), view.is_waiting(OTHER)) == (True, False)
        assert view.is_waiting(PROJECT)
        view, _ = viewed(opened("a"), make(StageUpdated, status="retrying"))
        assert view.is_waiting(STAGE)
        view, _ = viewed(opened("a"), make(StageUpdated, status="queued"), done())
        assert (view.in_progress(STAGE), view.is_waiting(STAGE)) == (False, False)

    def test_a_fresh_viewer_sees_a_recent_end(self) -> None:
        """Within the grace a finished run is shown, after it not; by the reader's clock from the moment it was seen."""
        view, _ = viewed(opened("a"), token("x", 0), done(), now=100.0)
        assert told(view.fresh(STAGE, 100.0 + GRACE, GRACE)) == ["x", "done"]
        assert view.fresh(STAGE, 100.1 + GRACE, GRACE) == []
        assert told(view.replay(STAGE)) == ["x", "done"]

    def test_a_snapshots_end_is_judged_by_the_backends_clock(self) -> None:
        """However wrong the reader's clock is."""
        state = StageState(project="1", stage="rewrite", run="a", ended=Position(7, 1), ended_at=1000.0)
        view = View("1")
        for time_now, is_recent in ((1020.0, True), (1031.0, False), (5.0, True)):
            view.restart(Snapshot(position=Position(7, 1), stages={"rewrite": state}, time=time_now), 50.0)
            assert view.ended_recently(STAGE, 50.0, GRACE) is is_recent

    def test_a_run_in_progress_is_always_shown(self) -> None:
        """However long ago it began."""
        view, _ = viewed(opened("a"), token("x", 0))
        assert told(view.fresh(STAGE, 10_000.0, GRACE)) == ["x"]

    def test_a_replay_carries_its_position_on_its_last_message(self) -> None:
        """A viewer that is cut off in the middle of a snapshot must not believe that it has seen it."""
        view, _ = viewed(
            opened("a"),
            token("x", 0),
            make(ItemCompleted, item_type="image", sequence_number=1),
            opened("b", stage="images"),
            make(StageUpdated, status="processing", stage="images"),
        )
        for topic, count in ((STAGE, 2), (OTHER, 1), (PROJECT, 3)):
            replay = view.replay(topic)
            assert [one.position for one in replay] == [*[None] * (count - 1), Position(7, 4)]
        assert view.replay(STAGE)[0].text == "x"

    def test_a_replay_shows_stages_as_they_began_and_the_pipelines_end_last(self) -> None:
        """Whatever order the backend's snapshot has: a client may close on the pipeline's end."""
        view, _ = viewed(
            opened("a"),
            token("x", 0),
            done(),
            opened("b", stage="images"),
            token("y", 0, stage="images"),
            done(stage="images"),
            make(PipelineCompleted, stage="images"),
            make(StageRefreshed, stage="unopened"),
        )
        view.stages = {name: view.stages[name] for name in ("unopened", "images", "rewrite")}
        replay = view.replay(PROJECT)
        assert told(replay) == ["x", "done", "y", "done", "stage_completed", "pipeline_done"]
        assert [one.position for one in replay] == [None] * 5 + [Position(7, 7)]
        assert told(view.replay(OTHER)) == ["y", "done", "pipeline_done"]

    def test_a_replay_is_silent_about_an_end_that_was_none(self) -> None:
        """A pipeline's end before a stage began again is no end of the project, and of two ends the last counts."""
        failed, ended = make(PipelineFailed, stage="images", error="no"), make(PipelineCompleted, stage="pipeline")
        view, _ = viewed(opened("a"), token("x", 0), done(), failed, opened("b"), token("y", 0))
        assert told(view.replay(PROJECT)) == ["y"]
        view, _ = viewed(opened("a"), token("x", 0), done(), failed, opened("b"), token("y", 0), done(), ended)
        assert told(view.replay(PROJECT)) == ["y", "done", "pipeline_done"]
