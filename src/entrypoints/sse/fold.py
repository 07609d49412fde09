"""One project folded once and framed once for all its viewers in this process. Knows no connection and no event loop.

Viewers with `?delta=1` and viewers of the whole text share every frame but a token's. Frames with the whole text are
made only while somebody wants them, and held back where the text is long: then at most ten a second go out, each for
all tokens since the last.
"""

from collections.abc import Iterable, Sequence

from attrs import Factory, define, field, frozen

from stagecast.domain.bus import Published, Snapshot
from stagecast.domain.events import JSON
from stagecast.domain.following import Reset, ResetCause, Shown, View
from stagecast.domain.positions import Position
from stagecast.domain.resuming import condensed, is_overtaken
from stagecast.domain.topics import Topic
from stagecast.entrypoints.messages import message

from . import framing
from .recent import EVENTS, Recent, RecentEvents

LONG_TEXT = 64 * 1024
"""UTF-16 code units of a text beyond which its whole is sent at most ten times a second."""
INTERVAL = 0.1
"""Seconds between two sendings of a long text."""


@frozen
class Portion:
    """The frames between two cursors."""

    data: bytes
    cursor: int
    """Where the viewer stands now."""
    position: Position | None
    """The id of the last frame; None where there is none."""
    over: bool = False
    """Whether the viewer's topic ends with the last frame."""


@define(eq=False)
class ProjectFold:
    """The state of a project's stages and the recent events that led to it."""

    project: str
    view: View = field(init=False)
    recent: RecentEvents = field(init=False)
    life: int = 0
    """How often the fold began anew; cursors of an earlier life are void."""
    cause: ResetCause | None = None
    """Why this life began."""
    whole_end: int = 0
    """Up to where viewers of the whole text may read now."""
    released: float = float("-inf")
    """When long texts were last sent, in monotonic seconds."""
    _made: dict[object, Portion] = Factory(dict)

    def __attrs_post_init__(self) -> None:
        self.view = View(self.project)
        self.recent = RecentEvents(None)

    def restart(self, snapshot: Snapshot, now: float) -> None:
        """Begin anew from `snapshot`."""
        self.view.restart(snapshot, now)
        self.recent.restart(snapshot.position)
        self.life += 1
        self.cause = snapshot.reset
        self.whole_end = self.recent.end
        self._made.clear()

    def apply(self, published: Published, now: float, *, whole: bool) -> Recent | None:
        """Fold one event in and keep it; with `whole` its frame with the whole text too, where that is not long.

        None where it changes nothing for a viewer. Raises ValueError where the log is not continuous.
        """
        shown = self.view.apply(published, now, with_text=False)
        self._made.clear()
        if shown is None:
            return None
        position, stage = published.position, published.event.stage
        state = self.view.stages[stage]
        recent = Recent(
            shown,
            position,
            stage,
            ends_stage=state.ended == position,
            ends_project=state.pipeline_ended == position,
        )
        if whole and recent.is_token and state.length <= LONG_TEXT:
            recent.whole = framing.event(message(Shown(shown.content, position, state.text)), position)
        self.recent.append(recent)
        return recent

    def holds_back(self, recent: Recent, now: float) -> bool:
        """Whether viewers of the whole text wait for `recent`, which was applied last; else they may read it now.

        Order is kept, so what follows a token that waits, waits too. Ends and new runs let everything go.
        """
        is_long = recent.is_token and recent.whole is None and self.view.stages[recent.stage].length > LONG_TEXT
        held = self.recent.end - 1 - self.whole_end
        urgent = recent.ends_stage or recent.ends_project or isinstance(recent.shown.content, Reset)
        if urgent or held > EVENTS // 2 or not (is_long or held):
            self.whole_end = self.recent.end
            return False
        if now - self.released >= INTERVAL:
            self.release(now)
            return False
        return True

    def release(self, now: float) -> None:
        """Let viewers of the whole text read everything."""
        self.whole_end = self.recent.end
        self.released = now
        self._made.clear()

    def portion(self, cursor: int, topic: Topic, *, whole: bool, run: str | None = None) -> Portion:
        """What a viewer of `topic` at `cursor` has still to be sent. Made once for all who stand at the same place."""
        key = cursor, topic.stage, whole, run
        if (made := self._made.get(key)) is None:
            end = max(cursor, self.whole_end if whole else self.recent.end)
            pending = [one for one in self.recent.between(cursor, end) if topic.covers(one.stage)]
            if whole and any(one.is_token and one.whole is None for one in pending):
                made = self._current([], pending, end, topic, run, whole=True)
            else:
                made = _as_they_were(pending, end, topic, run, whole=whole)
            self._made[key] = made
        return made

    def again(
        self, past: Sequence[Shown], cursor: int, topic: Topic, *, whole: bool, run: str | None = None
    ) -> Portion:
        """What a viewer is shown who comes back: `past`, then all from `cursor` on, without what was overtaken.

        Of `past`, which was read from the log and ends where `cursor` stands, nothing is overtaken.
        """
        key = "again", cursor, topic.stage, whole, run
        if past or (made := self._made.get(key)) is None:
            end = self.recent.end
            pending = [one for one in self.recent.between(cursor, end) if topic.covers(one.stage)]
            made = self._current(past, pending, end, topic, run, whole=whole)
            if not past:
                self._made[key] = made
        return made

    def replay(self, topic: Topic, *, whole: bool) -> bytes:
        """The frames of the topic's state, the last with the id; an id alone where there is nothing to show."""
        key = "replay", topic.stage, whole
        if (made := self._made.get(key)) is None:
            shown = self.view.replay(topic)
            data = b"".join(framing.event(message(one, full_text=whole), one.position) for one in shown)
            made = Portion(data or self.place(), self.recent.end, self.view.position)
            self._made[key] = made
        return made.data

    def reset(self, topic: Topic, cause: ResetCause) -> bytes:
        """The frame of a reset of the topic."""
        return framing.event(message(Shown(Reset(project=self.project, stage=topic.stage, cause=cause), None)))

    def place(self) -> bytes:
        """A block that tells the position and shows nothing; nothing where the project has no log."""
        return b"" if self.view.position is None else framing.id_only(self.view.position)

    def stream_end(self) -> bytes:
        """The frame that ends a stream for good."""
        fields: dict[str, JSON] = {"type": "stream_end", "project_id": self.project, "message": "SSE流已关闭"}
        return framing.event(fields)

    def connected(self, topic: Topic) -> bytes:
        """The frame that begins a stream."""
        return framing.event(
            {"type": "connected", "project_id": self.project, "stage": topic.stage, "message": "SSE连接已建立"}
        )

    def _current(
        self, past: Sequence[Shown], pending: list[Recent], end: int, topic: Topic, run: str | None, *, whole: bool
    ) -> Portion:
        shown: Iterable[Shown] = [*past, *(one.shown for one in pending if not is_overtaken(self.view, one.shown))]
        if whole:
            shown = condensed(self.view, shown)
        last = self.view.end(topic)
        parts: list[bytes] = []
        position: Position | None = None
        for one in shown:
            if _is_other_run(one, run):
                return Portion(b"".join(parts), end, position, over=True)
            parts.append(framing.event(message(one, full_text=whole), one.position))
            position = one.position
            if last is not None and position == last:
                return Portion(b"".join(parts), end, position, over=True)
        return Portion(b"".join(parts), end, position)


def _as_they_were(pending: list[Recent], end: int, topic: Topic, run: str | None, *, whole: bool) -> Portion:
    parts = []
    position: Position | None = None
    over = False
    for one in pending:
        if over := _is_other_run(one.shown, run):
            break
        parts.append(one.whole if whole and one.whole is not None else one.frame)
        position = one.position
        if over := one.ends_project if topic.stage is None else one.ends_stage:
            break
    return Portion(parts[0] if len(parts) == 1 else b"".join(parts), end, position, over)


def _is_other_run(shown: Shown, run: str | None) -> bool:
    content = shown.content
    return run is not None and isinstance(content, Reset) and content.run not in {None, run}
