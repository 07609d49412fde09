"""What a viewer is shown who comes back, or has fallen behind: without what was overtaken, text in one piece.

Pure functions of the fold's state now and of events that it has folded. They know no connection and no frame.
"""

from collections.abc import Iterable, Iterator

from attrs import evolve

from .bus import Published
from .events import PIPELINE, Event, RunOpened, StageCompleted, TokenEmitted, slot_of
from .following import Reset, Shown, View
from .text import units
from .topics import Topic


def shown_again(view: View, published: Published) -> Shown | None:
    """What an event that was read from the log again shows now; None where it shows nothing, or no more.

    An opening is shown as a reset even where it was the stage's first: whether it was is no longer known, and a
    reset of nothing changes nothing.
    """
    event: Event | Reset = published.event
    match event:
        case RunOpened(fresh=False):
            return None
        case RunOpened():
            event = Reset(project=event.project, stage=event.stage, cause="run", run=event.run, attempt=event.attempt)
        case StageCompleted(full_text=None) if state := view.stages.get(event.stage):
            event = evolve(event, full_text=state.text)
    shown = Shown(event, published.position)
    return None if is_overtaken(view, shown) else shown


def is_overtaken(view: View, shown: Shown) -> bool:
    """Whether `shown`, folded earlier, counts no more: a new run, a new text, a reopened run or pipeline."""
    content, position = shown.content, shown.position
    state = view.stages.get(content.stage or "")
    if state is None or position is None:
        return False
    if isinstance(content, Reset):
        return state.began is not None and position < state.began
    if slot_of(content) == PIPELINE:
        return position != view.end(Topic(view.project))
    if isinstance(content, TokenEmitted):
        since = state.shown_from or state.text_began or state.began
        return since is not None and position < since
    return state.is_superseded(position, content)


def condensed(view: View, shown: Iterable[Shown]) -> Iterator[Shown]:
    """`shown`, which is not overtaken, with each run of consecutive tokens as one token that has the whole text."""
    run: list[Shown] = []
    end = 0
    for one in shown:
        token = one.content if isinstance(one.content, TokenEmitted) else None
        if run and (token is None or token.stage != run[0].content.stage or token.offset != end):
            yield _merged(view, run, end)
            run = []
        if token is None:
            yield one
        else:
            run.append(one)
            end = token.offset + units(token.content)
    if run:
        yield _merged(view, run, end)


def _merged(view: View, run: list[Shown], end: int) -> Shown:
    tokens = [one.content for one in run if isinstance(one.content, TokenEmitted)]
    content = "".join(token.content for token in tokens)
    state = view.stages.get(tokens[0].stage)
    return Shown(
        evolve(tokens[-1], content=content, offset=tokens[0].offset, snapshot=tokens[0].snapshot),
        run[-1].position,
        state.text_until(end) if state else None,
    )
