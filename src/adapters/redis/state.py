"""What Redis holds of a project, as the domain's words: key names, and the meta hash as stage states."""

from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from stagecast.domain.bus import Snapshot
from stagecast.domain.errors import InvalidPosition
from stagecast.domain.events import Event
from stagecast.domain.ledger import MICROSECOND
from stagecast.domain.positions import Position
from stagecast.domain.state import StageState
from stagecast.domain.topics import Topic

SCHEMA = 1


@frozen
class Keys:
    """The keys and the feed channel of one project; the braces put them into one slot of a cluster."""

    project: str
    database: int = 0
    """Pub/Sub knows no databases, so that of the feed is in its name."""

    def _key(self, name: str) -> str:
        return f"stagecast:{SCHEMA}:{{{self.project}}}:{name}"

    @property
    def log(self) -> str:
        return self._key("log")

    @property
    def meta(self) -> str:
        return self._key("meta")

    @property
    def leases(self) -> str:
        return self._key("leases")

    @property
    def producers(self) -> str:
        return self._key("producers")

    @property
    def text_prefix(self) -> str:
        return self._key("text:")

    @property
    def feed(self) -> str:
        return self._key(f"feed:{self.database}" if self.database else "feed")

    def of_stage(self, stage: str) -> list[str]:
        """The keys that the script takes, in its order."""
        return [self.log, self.meta, self.leases, self.producers, self.text_prefix + stage]


def position_of(text: bytes | str | None) -> Position | None:
    """A position that Redis gave; None for an empty one or an id that is not the script's."""
    if not text:
        return None
    try:
        return Position.parse(text.decode() if isinstance(text, bytes) else text)
    except InvalidPosition:
        return None


def snapshot_of(topic: Topic, answer: Sequence[object], decode: Callable[[bytes], Event]) -> Snapshot:
    """The answer of snapshot.lua as a snapshot of `topic`'s stages."""
    position, time, flat, *texts = answer
    assert isinstance(position, bytes)
    assert isinstance(time, bytes)
    assert isinstance(flat, list)
    text_of = {texts[i].decode(): texts[i + 1] for i in range(0, len(texts), 2)}  # type: ignore[attr-defined]
    fields: dict[str, dict[str, bytes]] = {}
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        stage, colon, field = name.decode().partition(":")
        if colon and topic.covers(stage):
            fields.setdefault(stage, {})[field] = value
    stages = {}
    for stage, values in fields.items():
        text = text_of.get(stage)
        if texts and values.get("length", b"0") != b"0" and not text:
            continue  # state without its text counts as lost
        stages[stage] = _state(topic.project, stage, values, decode, (text or b"").decode())  # type: ignore[attr-defined]
    return Snapshot(position=position_of(position), stages=stages, time=int(time) / MICROSECOND)


def _state(
    project: str, stage: str, values: Mapping[str, bytes], decode: Callable[[bytes], Event], text: str
) -> StageState:
    ended_at = values.get("ended_at")
    state = StageState(
        project=project,
        stage=stage,
        run=values["run"].decode() if "run" in values else None,
        attempt=int(values.get("attempt", b"0")),
        began=position_of(values.get("began")),
        opened=position_of(values.get("opened")),
        text_began=position_of(values.get("text_began")),
        slots={field[2:]: decode(value) for field, value in values.items() if field.startswith("s:")},
        ended=position_of(values.get("ended")),
        ended_at=int(ended_at) / MICROSECOND if ended_at else None,
        pipeline_ended=position_of(values.get("pipeline_ended")),
    )
    state.text = text
    return state
