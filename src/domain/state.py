"""The fold: from events to the state of a stage. What a viewer sees is the state, and each event as the fold shows it.

Every reader folds with this one function, so a snapshot and the events that led to it show the same.
"""

import time
from collections.abc import Iterable

from attrs import Factory, define, evolve, field

from .events import (
    PIPELINE,
    Event,
    RunOpened,
    StageCompleted,
    StageUpdated,
    TokenEmitted,
    ends_run,
    slot_of,
)
from .positions import Position
from .text import prefix, units


@define
class StageState:
    """One stage at one position."""

    project: str
    stage: str
    run: str | None = None
    attempt: int = 0
    began: Position | None = None
    """Where the current run begins: nothing of the stage before this counts any more."""
    opened: Position | None = None
    """Where the run was last opened, be it for another attempt: an end before this was none."""
    text_began: Position | None = None
    """Where the text was last begun anew: tokens before this count no more."""
    shown_from: Position | None = field(default=None, eq=False)
    """Like `text_began`; but a whole text that went on with what was shown, and is shown as its rest, began nothing."""
    slots: dict[str, Event] = Factory(dict)
    """The last event of each slot (`stagecast.domain.events.slot_of`)."""
    ended: Position | None = None
    """The terminal position: where the run ended; None while there is something to wait for."""
    ended_at: float | None = None
    """The backend's time of the end, in seconds; None for an end that was folded from a live event."""
    pipeline_ended: Position | None = None
    """Where the last `pipeline_done` or `pipeline_error` of this stage stands."""
    length: int = 0
    """UTF-16 code units of `text`."""
    _pieces: list[str] = Factory(list)

    @property
    def text(self) -> str:
        """The stage's text so far."""
        if len(self._pieces) > 1:
            self._pieces[:] = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    @text.setter
    def text(self, text: str) -> None:
        self._pieces[:] = [text] if text else []
        self.length = units(text)

    def text_until(self, length: int) -> str:
        """The first `length` UTF-16 code units of the text."""
        return self.text if length >= self.length else prefix(self.text, length)

    @property
    def in_progress(self) -> bool:
        """Whether a run is open."""
        return self.run is not None and self.ended is None

    def apply(self, position: Position, event: Event) -> Event | None:
        """Fold `event` in; return it as a viewer should see it, or None where it changes nothing for a viewer.

        A whole text that continues what was shown is shown as its new rest, `done` without a text of its own with
        the stage's.
        """
        shown: Event | None = event
        match event:
            case TokenEmitted():
                shown = self._apply_token(position, event)
            case RunOpened():
                self._apply_opening(position, event)
            case StageCompleted(full_text=None):
                shown = evolve(event, full_text=self.text)
        if slot := slot_of(event):
            self.slots[slot] = event
        if slot == PIPELINE:
            self.pipeline_ended = position
        if ends_run(event) or (isinstance(event, StageUpdated) and event.is_final and not self.in_progress):
            self.ended, self.ended_at = position, None
        return shown

    def is_superseded(self, position: Position, event: Event) -> bool:
        """Whether `event`, of an earlier position, was overtaken: by a new run, a new text, a reopened run."""
        match event:
            case TokenEmitted():
                since = self.text_began or self.began
            case _ if ends_run(event):
                since = self.opened
            case _:
                since = self.began
        return since is not None and position < since

    def _apply_token(self, position: Position, token: TokenEmitted) -> TokenEmitted | None:
        if token.offset == self.length and not token.snapshot:
            if token.offset == 0:
                self.text_began = self.shown_from = position
            self._pieces.append(token.content)
            self.length += units(token.content)
            return token
        if token.offset == 0:
            before, length, shown_from = self.text, self.length, self.shown_from or self.text_began
            self.text = token.content
            self.text_began = self.shown_from = position
            if not token.snapshot or not token.content.startswith(before):
                return token
            self.shown_from = shown_from
            rest = token.content[len(before) :]
            return evolve(token, content=rest, offset=length, snapshot=False) if rest else None
        raise ValueError(f"token at offset {token.offset} of a text of {self.length}: the log is not continuous")

    def _apply_opening(self, position: Position, opening: RunOpened) -> None:
        if opening.run != self.run or self.began is None or self.began.epoch != position.epoch:
            self.slots.clear()
            self.began = position
            self.pipeline_ended = None
        if opening.run != self.run or opening.fresh:
            self.text = ""
            self.text_began = self.shown_from = position
        self.slots.pop("outcome", None)
        self.run, self.attempt, self.opened = opening.run, opening.attempt, position
        self.ended = self.ended_at = None

    def replay(self) -> Iterable[Event]:
        """The state as the events that show it to a late joiner: status, one token, items, progress, outcome."""
        order = {"status": 0, "progress": 3, "outcome": 4, "refreshed": 5, PIPELINE: 6}
        shown = [(order.get(slot, 2), event) for slot, event in self.slots.items()]
        if self.length:
            text = TokenEmitted(
                project=self.project,
                stage=self.stage,
                timestamp=time.time(),
                content=self.text,
                offset=0,
                snapshot=True,
            )
            shown.append((1, text))
        for _, event in sorted(shown, key=_rank):
            if isinstance(event, StageCompleted) and event.full_text is None:
                event = evolve(event, full_text=self.text)
            yield event


def _rank(entry: tuple[int, Event]) -> tuple[int, str, int]:
    rank, event = entry
    return rank, getattr(event, "item_type", ""), getattr(event, "sequence_number", 0)
