"""The use case "follow a topic": what a viewer is shown, from the first message to the end. Knows no wire form.

`View` folds a project once for any number of viewers; `Follower` follows one topic for one reader.
"""

import asyncio
from collections.abc import Iterator
from typing import Literal, TypeAlias

from attrs import Factory, define, frozen

from .bus import Delivery, Published, Snapshot, Subscription
from .events import PIPELINE, Event, RunOpened, TokenEmitted, slot_of
from .positions import Position
from .state import StageState
from .topics import Topic

GRACE = 30.0
"""Seconds after its end in which a finished run is still shown to a viewer who comes fresh: a `done` just missed."""

ResetCause: TypeAlias = Literal["truncated", "epoch", "run", "lost"]


@frozen(kw_only=True)
class Reset:
    """What was shown before is not continuous with what follows: of one stage, or, with `stage` None, of all."""

    project: str
    stage: str | None
    cause: ResetCause
    """truncated: too far behind; epoch: the backend lost data; run: a new run or attempt; lost: nobody holds it."""
    run: str | None = None
    attempt: int = 0


@frozen
class Shown:
    """One message for a viewer."""

    content: Event | Reset
    position: Position | None
    """Where a viewer stands who has seen this; None inside a snapshot, whose last message alone has it."""
    text: str | None = None
    """With a token: the stage's whole text up to and with it."""


@define
class View:
    """The state of a project's stages, as viewers of it or of one of its stages see it."""

    project: str
    stages: dict[str, StageState] = Factory(dict)
    position: Position | None = None
    time_offset: float = 0.0
    """The backend's clock minus the reader's monotonic clock, in seconds."""

    def restart(self, snapshot: Snapshot, now: float) -> None:
        """Begin anew from `snapshot`, at monotonic time `now`."""
        self.stages = dict(snapshot.stages)
        self.position = snapshot.position
        self.time_offset = snapshot.time - now

    def apply(self, published: Published, now: float, *, with_text: bool = True) -> Shown | None:
        """Fold one event in; None where it changes nothing for a viewer.

        Without `with_text` a token is shown without the whole text, whose making costs its length each time.
        """
        event, self.position = published.event, published.position
        state = self.stages.get(event.stage)
        if state is None:
            state = self.stages[event.stage] = StageState(project=self.project, stage=event.stage)
        had_run, was_ended = state.run is not None, state.ended
        shown = state.apply(published.position, event)
        if state.ended is not None and state.ended != was_ended:
            state.ended_at = now + self.time_offset
        if shown is None:
            return None
        if isinstance(shown, RunOpened):
            return Shown(_reset(shown), published.position) if had_run and shown.fresh else None
        text = state.text if with_text and isinstance(shown, TokenEmitted) else None
        return Shown(shown, published.position, text)

    def end(self, topic: Topic) -> Position | None:
        """The terminal position of `topic`; None while there is something to wait for."""
        if topic.stage is not None:
            state = self.stages.get(topic.stage)
            return state.ended if state else None
        ends = [state.pipeline_ended for state in self.stages.values() if state.pipeline_ended]
        begun = [state.opened for state in self.stages.values() if state.opened]
        end = max(ends, default=None)
        return None if end is None or any(opened > end for opened in begun) else end

    def is_rewound(self, topic: Topic, seen: Position | None) -> bool:
        """After data was lost: whether `topic` stands at an end of before `seen`, so that the run since then is gone.

        That end is no news for one who had seen more, and not the end that such a one waits for.
        """
        end = self.end(topic)
        return seen is not None and end is not None and end < seen

    def has_come_back(self, topic: Topic, seen: Position | None) -> bool:
        """After data was lost: whether `topic` has a run, or an end, that is not of before `seen`."""
        ends = [self.end(topic), *(state.ended for state in self._covered(topic))]
        return self.in_progress(topic) or any(at is not None and (seen is None or at > seen) for at in ends)

    def in_progress(self, topic: Topic) -> bool:
        """Whether a run is open in `topic`."""
        return any(state.in_progress for state in self._covered(topic))

    def is_waiting(self, topic: Topic) -> bool:
        """Whether a run of `topic` waits for its start or for a retry."""
        return any(
            state.in_progress and getattr(state.slots.get("status"), "status", None) in {"queued", "retrying"}
            for state in self._covered(topic)
        )

    def ended_recently(self, topic: Topic, now: float, grace: float) -> bool:
        """Whether `topic` ended at most `grace` seconds before monotonic time `now`."""
        end = self.end(topic)
        times = [state.ended_at for state in self._covered(topic) if state.ended_at is not None]
        return end is not None and bool(times) and now + self.time_offset - max(times) <= grace

    def replay(self, topic: Topic) -> list[Shown]:
        """The state of `topic` for one who has seen nothing; the last message carries the position.

        A project's stages come in the order in which they began, and what ended its pipeline comes last, where nothing
        has begun since: a client may close on it.
        """
        events = list(self._state_of(topic))
        last = len(events) - 1
        return [
            Shown(
                event,
                self.position if index == last else None,
                event.content if isinstance(event, TokenEmitted) else None,
            )
            for index, event in enumerate(events)
        ]

    def fresh(self, topic: Topic, now: float, grace: float) -> list[Shown]:
        """The replay for a viewer who comes without a position: nothing where the topic ended longer ago than `grace`.

        So that "connect, then regenerate" does not end on yesterday's result.
        """
        if self.end(topic) is not None and not self.ended_recently(topic, now, grace):
            return []
        return self.replay(topic)

    def _state_of(self, topic: Topic) -> Iterator[Event]:
        ending: list[Event] = []
        for state in sorted(self._covered(topic), key=_beginning):
            for event in state.replay():
                if topic.stage is None and slot_of(event) == PIPELINE:
                    ending += [event] if state.pipeline_ended == self.end(topic) else []
                else:
                    yield event
        yield from ending

    def _covered(self, topic: Topic) -> Iterator[StageState]:
        return (state for name, state in self.stages.items() if topic.covers(name))


def _beginning(state: StageState) -> tuple[bool, Position]:
    return state.began is None, state.began or Position(0, 0)


def _reset(opening: RunOpened) -> Reset:
    return Reset(project=opening.project, stage=opening.stage, cause="run", run=opening.run, attempt=opening.attempt)


class Follower:
    """One reader's way through a topic: an async iterator that ends where the topic does.

    The subscription must begin with its snapshot: only a whole state can be folded on. After the backend lost data, a
    run that nobody restores within `patience` seconds (a lease time) is shown as lost, and the iteration ends.
    """

    def __init__(self, subscription: Subscription, topic: Topic, *, patience: float, grace: float = GRACE) -> None:
        self.topic = topic
        self.view = View(topic.project)
        self.is_over = False
        self._subscription = subscription
        self._patience, self._grace = patience, grace
        self._ready: list[Shown] = []
        self._started = False
        self._lost_at: float | None = None

    def __aiter__(self) -> "Follower":
        return self

    async def __anext__(self) -> Shown:
        """The next message. Cancelling the wait loses nothing."""
        while not self._ready:
            if self.is_over:
                raise StopAsyncIteration
            try:
                async with asyncio.timeout_at(self._lost_at):
                    delivery = await anext(self._subscription)
            except TimeoutError:
                self._give_up()
            except StopAsyncIteration:
                self.is_over = True
            else:
                self._take(delivery, asyncio.get_running_loop().time())
        return self._ready.pop(0)

    def _take(self, delivery: Delivery, now: float) -> None:
        if isinstance(delivery, Published):
            shown = self.view.apply(delivery, now)
            self._ready += [shown] if shown else []
            self.is_over = self.view.end(self.topic) is not None
        elif delivery.reset is None and not self._started:
            self.view.restart(delivery, now)
            self._ready += self.view.fresh(self.topic, now, self._grace)
            self.is_over = bool(self._ready) and self.view.end(self.topic) is not None
        else:
            awaited = self.view.in_progress(self.topic) or not self._started
            seen = self.view.position
            self.view.restart(delivery, now)
            reset = Reset(project=self.topic.project, stage=self.topic.stage, cause=delivery.reset or "truncated")
            is_rewound = delivery.reset == "epoch" and self.view.is_rewound(self.topic, seen)
            self._ready += [Shown(reset, None), *([] if is_rewound else self.view.replay(self.topic))]
            self.is_over = self.view.end(self.topic) is not None and not is_rewound
            if awaited and delivery.reset == "epoch":
                self._lost_at = now + self._patience
        self._started = True
        if self.view.in_progress(self.topic) or self.is_over:
            self._lost_at = None

    def _give_up(self) -> None:
        self._lost_at = None
        self.is_over = True
        reset = Reset(project=self.topic.project, stage=self.topic.stage, cause="lost")
        self._ready.append(Shown(reset, None))
