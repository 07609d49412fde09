"""What a publisher has accepted and the bus has not yet acknowledged. Thread-safe; knows no bus and no event loop.

Callers add tokens and events; the delivering task takes batches, and settles what the bus has acknowledged. The outbox
also holds what its publisher must be able to send again after the backend lost data: its text and the last event of
each slot.
"""

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from attrs import Factory, define, field, frozen, validators

from . import values
from .bus import Need
from .errors import EventTooLarge
from .events import PIPELINE, Event, StageUpdated, TokenEmitted, ends_run, opens_run, slot_of
from .text import is_sound, split_trailing_surrogate, units

logger = logging.getLogger("stagecast.publisher")


@frozen(kw_only=True)
class OutboxLimits:
    """Bounds of what waits for delivery, and of how long. Raises ValueError."""

    pending_events: int = 100_000
    """Where so many events wait, their tokens collapse into one snapshot of the text; twice as many are refused."""
    batch_events: int = 512
    batch_characters: int = 256 * 1024
    linger: float = field(default=0.025, validator=validators.and_(validators.ge(0.0), validators.le(0.5)))
    """Seconds, at the most, that events wait for others to go with them: tokens, progress and items that come within
    so many seconds of the batch before. 0 sends whatever there is as soon as the bus has answered (ADR 0018)."""


@define(eq=False)
class _Text:
    """A text since it was last begun."""

    pieces: list[str] = Factory(list)
    length: int = 0
    """UTF-16 code units."""
    counted: int = 0
    """The length as the caller's `len()` counts it."""
    acknowledged: int = 0
    """How many of the pieces the bus has, or was to have: what a restored text is made of."""


@define(eq=False)
class _Token:
    text: _Text
    pieces: int
    """How many pieces the text has with this token."""
    content: str
    offset: int
    timestamp: float


@define(eq=False)
class _WholeText:
    """Stands where tokens waited that have collapsed: their text as it is when this is sent."""

    text: _Text
    weight: int


@define(eq=False)
class Sending:
    """An event on its way, and what its acknowledgement means."""

    event: Event
    weight: int = 1
    """How many accepted events it stands for."""
    text: _Text | None = None
    pieces: int = 0


_Pending: TypeAlias = "_Token | _WholeText | Event"


class MakeToken(Protocol):
    """Makes a publisher's token events."""

    def __call__(self, *, content: str, offset: int, timestamp: float, snapshot: bool) -> TokenEmitted: ...


class Outbox:
    """The buffer of one publisher."""

    def __init__(self, make_token: MakeToken, clock: Callable[[], float], limits: OutboxLimits, max_bytes: int) -> None:
        self.limits = limits
        self.accepted = 0
        self.settled = 0
        self.refused = 0
        """Accepted events that the bus refused or that could not be sent, since a flush last asked."""
        self._make_token, self._clock, self._max_bytes = make_token, clock, max_bytes
        self._lock = threading.Lock()
        self._pending: deque[_Pending] = deque()
        self._returned: deque[list[Sending]] = deque()
        """Batches to be sent before what waits: again, or made already."""
        self._end = 0
        """How many events were accepted with the last end of a run."""
        self._is_over = True
        """Whether what was taken last leaves no run open: the next event may open one."""
        self._is_urgent = False
        """Whether something waits that does not linger, or that somebody waits for."""
        self._whole: _WholeText | None = None
        """The one of the present text that waits."""
        self._loose = 0
        """How many tokens wait that have not collapsed."""
        self._text = _Text()
        self._text_is_over = False
        self._high_surrogate = ""
        self._held: dict[str, Event] = {}
        self._held_text: _Text | None = None
        """The text of the run that `_held` is of."""

    @property
    def is_full(self) -> bool:
        return len(self._pending) >= 2 * self.limits.pending_events

    @property
    def is_empty(self) -> bool:
        return not self._pending and not self._returned

    @property
    def is_due(self) -> bool:
        """Whether what waits is to be sent at once: no more of it will be gathered."""
        waiting = len(self._pending)
        return bool(self._returned) or waiting >= self.limits.batch_events or (self._is_urgent and waiting > 0)

    @property
    def has_end(self) -> bool:
        """Whether the end of a run is not yet acknowledged."""
        return self.settled < self._end

    @property
    def text(self) -> str:
        """The text accepted so far."""
        with self._lock:
            return "".join(self._text.pieces)

    def add_token(self, content: str, full_text: str | None) -> None:
        """Accept a piece of text (`StagePublisher.publish_token`). Raises EventTooLarge."""
        with self._lock:
            counted, is_new = len(content), self._text_is_over
            high = "" if is_new else self._high_surrogate
            if full_text is not None and len(full_text) != counted + (0 if is_new else self._text.counted):
                content, counted, is_new, high = full_text, len(full_text), True, ""
            if high or not content.isascii():
                content, high = split_trailing_surrogate(high + content)
                content = content if is_sound(content) else values.sound(content, "token content")
            if len(content) * 6 > self._max_bytes - 1024 and (size := _encoded(content)) > self._max_bytes - 1024:
                raise EventTooLarge(f"a token of {size} bytes; the limit is {self._max_bytes - 1024}")
            text = self._begin_text() if is_new else self._text
            self._high_surrogate = high
            text.counted += counted
            if content:
                self._append_token(content)

    def add(self, event: Event) -> None:
        """Accept an event that is no token."""
        with self._lock:
            self._end_surrogate()
            self._pending.append(event)
            self.accepted += 1
            self._is_urgent = self._is_urgent or _is_turn(event)
            if ends_run(event):
                self._text_is_over, self._end = True, self.accepted
            elif self._text_is_over and opens_run(event):
                self._begin_text()
            if len(self._pending) >= self.limits.pending_events:
                self._collapse()

    def is_own_text(self, text: str) -> bool:
        """Whether `text` is what the tokens add up to."""
        with self._lock:
            self._end_surrogate()
            own = self._text
            return bool(text) and len(text) == own.counted and text == "".join(own.pieces)

    def mark(self) -> int:
        """How many events were accepted until now: what a flush waits to see settled. They linger no more."""
        with self._lock:
            self._end_surrogate()
            self._is_urgent = bool(self._pending)
            return self.accepted

    def take(self) -> list[Sending]:
        """The next batch. It belongs to one run: it ends with an end, and what may open a run begins one."""
        with self._lock:
            return self._returned.popleft() if self._returned else self._take()

    def prepare(self) -> None:
        """Make the next batch, if it is a full one, while the last one is on its way."""
        with self._lock:
            if not self._returned and len(self._pending) >= self.limits.batch_events:
                self._returned.append(self._take())

    def _take(self) -> list[Sending]:
        batch, characters, ends = list[Sending](), 0, False
        pending, limits, make_token = self._pending, self.limits, self._make_token
        while pending and len(batch) < limits.batch_events and characters < limits.batch_characters:
            opens = _opens(pending[0])
            if batch and (ends or (opens and self._is_over)):
                break
            match pending.popleft():
                case _Token() as token:
                    self._loose -= 1
                    event: Event = make_token(
                        content=token.content, offset=token.offset, timestamp=token.timestamp, snapshot=False
                    )
                    batch.append(Sending(event, 1, token.text, token.pieces))
                    characters += len(token.content)
                case _WholeText() as whole:
                    self._whole = None if whole is self._whole else self._whole
                    batch.append(self._whole_text(whole.text, len(whole.text.pieces), whole.weight))
                    characters += limits.batch_characters
                case event:
                    batch.append(Sending(event))
                    ends = ends_run(event)
            self._is_over = ends or (self._is_over and not opens)
        self._is_urgent = self._is_urgent and bool(pending)
        return batch

    def settle(self, batch: Sequence[Sending]) -> None:
        """The bus has acknowledged `batch`."""
        with self._lock:
            for sent in batch:
                self.settled += sent.weight
                if sent.text is not None:
                    self._hold_text(sent.text, sent.pieces)
                elif slot := slot_of(sent.event):
                    self._held.pop(slot, None)
                    self._held[slot] = sent.event

    def give_up(self, batch: Sequence[Sending]) -> None:
        """`batch` will never be in the log, except for its tokens where the whole text is sent later."""
        with self._lock:
            self._give_up(batch)

    def _give_up(self, batch: Sequence[Sending]) -> None:
        for sent in batch:
            self.settled += sent.weight
            self.refused += sent.weight
            if sent.text is not None:
                self._hold_text(sent.text, sent.pieces)

    def _hold_text(self, text: _Text, pieces: int) -> None:
        text.acknowledged = max(text.acknowledged, pieces)
        self._held_text = text

    def give_up_all(self) -> None:
        """Nothing that waits will ever be in the log."""
        while batch := self.take():
            self.give_up(batch)

    def put_back(self, batch: Sequence[Sending], need: Need | None, *, writes_text: bool) -> None:
        """Send `batch` again, and before it what the bus needs: the acknowledged text, or all that it had.

        Tokens of one who does not write the text are given up where it is needed.
        """
        with self._lock:
            again = list(batch)
            if need == "state":
                again = [sent for sent in again if sent.weight]  # what was restored in vain is restored anew
            if need is not None and not writes_text:
                self._give_up([sent for sent in again if sent.text is not None])
                again = [sent for sent in again if sent.text is None]
            texts = [sent.text for sent in again if sent.text is not None]
            text = texts[0] if texts and need == "text" else self._held_text
            restored: list[Sending] = []
            if need is not None and writes_text and text is not None and text.acknowledged:
                restored.append(self._whole_text(text, text.acknowledged, 0))
            if need == "state":
                held = list(self._held.values())
                status = [Sending(event, 0) for event in held if isinstance(event, StageUpdated)]
                others = [Sending(event, 0) for event in held if not isinstance(event, StageUpdated)]
                self._returned.extendleft(one for one in (again, [*status, *restored, *others]) if one)
            elif again:
                self._returned.appendleft([*restored, *again])

    def forget_run(self) -> None:
        """A new run has begun: what was held for the one before is of no use."""
        with self._lock:
            self._held.clear()
            self._held_text = None

    def _begin_text(self) -> _Text:
        if not self._text_is_over:
            self._drop_tokens()
        self._text = _Text()
        self._text_is_over = False
        self._high_surrogate = ""
        self._whole = None
        return self._text

    def _drop_tokens(self) -> None:
        """Tokens of a text that is begun anew within its run are of no use to anybody."""
        kept = deque[_Pending]()
        for one in self._pending:
            if isinstance(one, _Token | _WholeText) and one.text is self._text:
                self.settled += _weight(one)
                self._loose -= isinstance(one, _Token)
            else:
                kept.append(one)
        self._pending = kept

    def _append_token(self, content: str) -> None:
        text = self._text
        offset = text.length
        text.pieces.append(content)
        text.length += len(content) if content.isascii() else units(content)
        self.accepted += 1
        if self._whole is not None:
            self._whole.weight += 1
            return
        self._pending.append(_Token(text, len(text.pieces), content, offset, self._clock()))
        self._loose += 1
        if offset == 0:
            self._is_urgent = True
        if len(self._pending) >= self.limits.pending_events:
            self._collapse()

    def _end_surrogate(self) -> None:
        """A high surrogate whose other half never came is sent as U+FFFD."""
        if self._high_surrogate:
            content, self._high_surrogate = values.sound(self._high_surrogate, "token content"), ""
            self._append_token(content)

    def _collapse(self) -> None:
        """Let one snapshot of each text stand for its tokens that wait, in the place of the first of them."""
        if not self._loose:
            return
        collapsed, wholes = deque[_Pending](), dict[int, _WholeText]()
        for one in self._pending:
            if not isinstance(one, _Token | _WholeText):
                collapsed.append(one)
            elif whole := wholes.get(id(one.text)):
                whole.weight += _weight(one)
            else:
                whole = wholes[id(one.text)] = _WholeText(one.text, _weight(one))
                collapsed.append(whole)
        logger.warning("events wait for the bus: %d tokens collapse into one snapshot", self._loose)
        self._pending, self._loose = collapsed, 0
        self._whole = wholes.get(id(self._text))

    def _whole_text(self, text: _Text, pieces: int, weight: int) -> Sending:
        content = "".join(text.pieces[:pieces])
        return Sending(
            self._make_token(content=content, offset=0, timestamp=self._clock(), snapshot=True), weight, text, pieces
        )


def _opens(entry: _Pending) -> bool:
    """Whether it may open a run (`stagecast.domain.events.opens_run`)."""
    if isinstance(entry, _Token):
        return entry.offset == 0
    return isinstance(entry, _WholeText) or opens_run(entry)


def _is_turn(event: Event) -> bool:
    """Whether a run, or the project's stream, may begin or end with it: viewers should see that at once."""
    return opens_run(event) or ends_run(event) or isinstance(event, StageUpdated) or slot_of(event) == PIPELINE


def _encoded(content: str) -> int:
    """The size of `content` as JSON, in bytes."""
    return len(json.dumps(content, ensure_ascii=False).encode())


def _weight(entry: _Token | _WholeText) -> int:
    return entry.weight if isinstance(entry, _WholeText) else 1
