"""The recent events of one project, as frames that all its viewers share. Knows no viewer and no connection.

A viewer is a cursor into these events: it has no queue of its own, so a slow one costs nothing. Cursors are indices
that grow for ever; the events between two cursors are what a viewer has still to be sent.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import islice

from attrs import Factory, define, field

from stagecast.domain.events import TokenEmitted
from stagecast.domain.following import Shown
from stagecast.domain.positions import Position
from stagecast.entrypoints.messages import message

from . import framing

EVENTS = 1000
"""Events that are kept."""
EVENT_BYTES = 4 << 20
"""Bytes of events that are kept, roughly; the newest is kept whatever its size."""
WHOLE_BYTES = 1 << 20
"""Bytes of token frames with `full_text` that are kept: each is as long as the text, and few are behind by many."""
_OVERHEAD = 256
"""What an event takes beside its content, roughly."""


@define(eq=False)
class Recent:
    """One shown event."""

    shown: Shown
    """Without the whole text."""
    position: Position
    stage: str
    ends_stage: bool = False
    """Whether the stage has ended here."""
    ends_project: bool = False
    """Whether the pipeline has ended here."""
    whole: bytes | None = None
    """The frame of a token with `full_text`, while it is kept."""
    size: int = field(init=False)
    _frame: bytes | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        content = self.shown.content
        self.size = _OVERHEAD + (3 * len(content.content) if isinstance(content, TokenEmitted) else len(self.frame))

    @property
    def is_token(self) -> bool:
        return isinstance(self.shown.content, TokenEmitted)

    @property
    def frame(self) -> bytes:
        """The frame as delta viewers get it, and, but for tokens, everybody. Made once."""
        if self._frame is None:
            self._frame = framing.event(message(self.shown, full_text=False), self.position)
        return self._frame


@define(eq=False)
class RecentEvents:
    """The last events after `start`, within bounds of number and size."""

    start: Position | None
    """Everything after this position is here; None for all there ever was."""
    first: int = 0
    """The cursor of the oldest event that is kept."""
    _kept: deque[Recent] = Factory(deque)
    _bytes: int = 0
    _whole: deque[Recent] = Factory(deque)
    _whole_bytes: int = 0
    _dropped: dict[str, int] = Factory(dict)

    @property
    def end(self) -> int:
        """The cursor of one who has everything."""
        return self.first + len(self._kept)

    def append(self, recent: Recent) -> None:
        """Keep one more, the oldest no longer where there are too many."""
        self._kept.append(recent)
        self._bytes += recent.size
        if recent.whole is not None:
            self._whole.append(recent)
            self._whole_bytes += len(recent.whole)
            while self._whole_bytes > WHOLE_BYTES and len(self._whole) > 1:
                self._drop_whole()
        while len(self._kept) > EVENTS or (self._bytes > EVENT_BYTES and len(self._kept) > 1):
            self._drop()

    def restart(self, start: Position | None) -> None:
        """Keep nothing of before: the log has no continuous way from there to `start`. Cursors of before are void."""
        self.first = self.end
        self.start = start
        self._kept.clear()
        self._whole.clear()
        self._dropped.clear()
        self._bytes = self._whole_bytes = 0

    def covers(self, position: Position) -> bool:
        """Whether everything after `position`, of the same life of the log, is here."""
        return self.start is None or (position >= self.start and position.epoch == self.start.epoch)

    def after(self, position: Position) -> int:
        """The cursor of one who has seen everything up to `position`, which is covered."""
        return self.first + bisect_right(self._kept, position, key=lambda recent: recent.position)

    def missed(self, cursor: int, stage: str | None) -> bool:
        """Whether an event of `stage` (None: of any) at or after `cursor` is kept no more."""
        if stage is None:
            return cursor < self.first
        return self._dropped.get(stage, -1) >= cursor

    def between(self, cursor: int, end: int) -> Iterator[Recent]:
        """What is kept from `cursor` up to `end`."""
        return islice(self._kept, max(cursor - self.first, 0), max(end - self.first, 0))

    def _drop(self) -> None:
        oldest = self._kept.popleft()
        if self._whole and self._whole[0] is oldest:
            self._drop_whole()
        self._bytes -= oldest.size
        self._dropped[oldest.stage] = self.first
        self.first += 1
        self.start = oldest.position

    def _drop_whole(self) -> None:
        recent = self._whole.popleft()
        assert recent.whole is not None
        self._whole_bytes -= len(recent.whole)
        recent.whole = None
