"""What viewers were sent, in short, and what was done to whom: all that the checker sees besides the journals."""

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

from attrs import Factory, asdict, define, field

from stagecast.domain.text import units

Record = list[Any]
"""Kind, id or None, stage or None, and more by kind:

    token     offset, content, and for viewers of the whole text the checksum of the whole
    item      number
    reset     cause
    error       reason
    done, skipped, pipeline, stream_end, connected, other
"""


def record_of(message: Mapping[str, Any], id_: str | None) -> Record:
    """The record of a message; `id_` is the id in its own block."""
    kind, stage = message["type"], message.get("stage")
    match kind:
        case "token":
            content = message["content"]
            if "offset" in message:
                return [kind, id_, stage, message["offset"], content, None]
            whole = message["full_text"]
            return [kind, id_, stage, units(whole) - units(content), content, checksum(whole)]
        case "item_completed":
            return ["item", id_, stage, message["sequence_number"], message["metadata"]["text"]]
        case "reset" | "error":
            return [kind, id_, stage, message.get("reason")]
        case "pipeline_done" | "pipeline_error":
            return ["pipeline", id_, None]
        case "done" | "stream_end" | "connected":
            return [kind, id_, stage]
        case "stage_update" if message["status"] == "skipped":
            return ["skipped", id_, stage]
        case _:
            return ["other", id_, stage, kind]


def checksum(text: str, before: int = 0) -> int:
    """Of a text, or of one that goes on after a text whose checksum is `before`."""
    return crc32(text.encode(), before)


@define
class Session:
    """One viewer's life: what it looked at, what it was sent, and why it ended."""

    name: str
    project: str
    stage: str | None
    """None: the whole project."""
    delta: bool
    manner: str = "steady"
    began: float = 0.0
    ended: float = 0.0
    end: str = "open"
    """closed: at the message that ends it; stream_end; finished: came back and got 204; left: of its own will;
    gave_up: waited in vain; refused ...: as an EventSource it is dead."""
    records: list[Record] = Factory(list)


def _intervals(given: Any) -> dict[str, list[tuple[float, float]]]:
    return {key: [(begin, end) for begin, end in several] for key, several in given.items()}


@define
class Events:
    """What was done, with times in seconds since the epoch, as far as it excuses something."""

    killed: dict[str, float] = Factory(dict)
    """Texts whose publisher was killed."""
    asleep: dict[str, list[tuple[float, float]]] = field(factory=dict, converter=_intervals)
    """Texts whose publisher was stopped for a while."""
    losses: list[list[float]] = Factory(list)
    """From when to when Redis lost everything."""


def write_events(path: Path, events: Events) -> None:
    path.write_text(json.dumps(asdict(events)), encoding="utf-8")


class SessionFile:
    """A file of sessions, written as they end."""

    def __init__(self, path: Path) -> None:
        self._file = gzip.open(path, "wt", compresslevel=1, encoding="utf-8")  # noqa: SIM115

    def add(self, session: Session) -> None:
        self._file.write(json.dumps(asdict(session), ensure_ascii=False, separators=(",", ":")) + "\n")

    def close(self) -> None:
        self._file.close()


def read_sessions(path: Path) -> Iterator[Session]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield Session(**json.loads(line))
