"""Events of two stages and what they show in short, for the tests of following."""

from stagecast.adapters.codec import JsonCodec
from stagecast.domain.bus import Published, Snapshot
from stagecast.domain.events import (
    Event,
    RunOpened,
    StageCompleted,
    StageUpdated,
    TokenEmitted,
)
from stagecast.domain.following import Reset, Shown, View
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic

CODEC = JsonCodec()
STAGE = Topic("1", "rewrite")
OTHER = Topic("1", "images")
PROJECT = Topic("1")
PATIENCE = 10.0


def make(kind: type[Event], *, stage: str = "rewrite", **fields: object) -> Event:
    return kind(project="1", stage=stage, timestamp=1.0, **fields)  # type: ignore[arg-type]


def opened(run: str, attempt: int = 1, *, fresh: bool = True, stage: str = "rewrite") -> Event:
    return make(RunOpened, stage=stage, run=run, attempt=attempt, fresh=fresh)


def token(content: str, offset: int, *, stage: str = "rewrite", snapshot: bool = False) -> Event:
    return make(TokenEmitted, stage=stage, content=content, offset=offset, snapshot=snapshot)


def done(*, stage: str = "rewrite") -> Event:
    return make(StageCompleted, stage=stage, full_text=None)


def viewed(*events: Event, now: float = 100.0) -> tuple[View, list[Shown]]:
    """A view of a project that has seen `events`, and what they showed."""
    view = View("1")
    view.restart(Snapshot(position=None, stages={}, time=1000.0), now)
    shown = [view.apply(Published(position=Position(7, n), event=event), now) for n, event in enumerate(events)]
    return view, [one for one in shown if one is not None]


def told(shown: list[Shown]) -> list[str]:
    """Messages in short."""
    words = []
    for one in shown:
        match one.content:
            case Reset(cause=cause):
                words.append(f"reset:{cause}")
            case TokenEmitted(content=content):
                words.append(content)
            case StageUpdated(status=status):
                words.append(f"status:{status}")
            case event:
                words.append(event.type)
    return words
