"""A commit as a message, and what it tells the next one: where the log and the texts are. Knows no NATS."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from attrs import Factory, asdict, frozen

from stagecast.adapters.transport import Entry
from stagecast.domain.positions import Position

TAIL_COMMITS = 128
TAIL_BYTES = 131_072


class Segment(NamedTuple):
    """A message that is a piece of a stage's text, in UTF-8."""

    sequence: int
    size: int
    written_at: float
    """In seconds since the epoch."""


class Archive(NamedTuple):
    """A piece of the log, and the messages that it is spread over: one, but for large entries."""

    sequences: tuple[int, ...]
    size: int
    written_at: float
    """In seconds since the epoch."""
    end: Position
    """Of its last entry."""


class Tail(NamedTuple):
    """The last commits, whose texts and entries are in no segment and archive yet: all from `since` on."""

    since: int
    """A sequence: of the first of them, or a smaller one."""
    commits: int = 0
    """How many there are, or were: renewals may be gone."""
    filled: int = 0
    """How many of them are more than renewals."""
    size: int = 0
    """Bytes of all that they add."""
    began_at: float = 0.0
    """When the first that is filled was written."""

    @property
    def is_full(self) -> bool:
        return self.commits >= TAIL_COMMITS or self.size >= TAIL_BYTES


@frozen(kw_only=True)
class Note:
    """What a commit tells the next one, and all readers."""

    expires_at: float
    end: Position | None
    """The position of the log's last entry, in this commit or before."""
    tail: Tail
    segments: Mapping[str, tuple[Segment, ...]] = Factory(dict)
    """The texts of stages up to the tail, in order."""
    archives: tuple[Archive, ...] = ()
    """The log up to the tail, in order."""
    is_renewal: bool = False
    """The commit has neither entries nor texts."""

    @property
    def oldest(self) -> Mapping[str, int]:
        """The smallest sequences of the segments and of the archives, where there are any."""
        found = {
            TEXT: [one.sequence for several in self.segments.values() for one in several],
            ARCHIVE: [one for archive in self.archives for one in archive.sequences],
        }
        return {kind: min(sequences) for kind, sequences in found.items() if sequences}

    def is_dated(self, horizon: float) -> bool:
        """Whether something that it refers to was written before `horizon`."""
        times = [self.tail.began_at] if self.tail.filled else []
        times += [one.written_at for several in self.segments.values() for one in several]
        times += [one.written_at for one in self.archives]
        return min(times, default=horizon) < horizon


LOG, HEAD, BODY, TEXT, ARCHIVE = "log", "head", "body", "text", "archive"
"""Kinds of subjects: commits, heads and bodies that are too large for them, segments, archives."""


@frozen(kw_only=True)
class Body:
    """What a commit adds."""

    entries: tuple[Entry, ...] = ()
    texts: Mapping[str, tuple[bool, str]] = Factory(dict)

    def dumped(self) -> bytes:
        texts = json.dumps(self.texts, separators=(",", ":"), ensure_ascii=False) if self.texts else ""
        return texts.encode() + b"\n" + dumped(self.entries)

    @classmethod
    def loaded(cls, data: bytes) -> "Body":
        texts, _, entries = data.partition(b"\n")
        return cls(
            entries=loaded(entries),
            texts={stage: (begins, text) for stage, (begins, text) in json.loads(texts or b"{}").items()},
        )


def dumped(entries: Iterable[Entry]) -> bytes:
    """Log entries, a line each."""
    return b"".join(b"%d %d %s %s\n" % (*position, stage.encode(), event) for position, stage, event in entries)


def loaded(lines: bytes) -> tuple[Entry, ...]:
    """What `dumped` has written."""
    return tuple(_entry(line) for line in lines.split(b"\n")[:-1])


def _entry(line: bytes) -> Entry:
    epoch, n, stage, event = line.split(b" ", 3)
    return Position(int(epoch), int(n)), stage.decode(), event


@frozen(kw_only=True)
class Commit:
    """The message. Head and body stand in it, or, where they are too large, in messages of their own."""

    note: Note
    head: bytes | tuple[int, ...]
    """Itself, or the sequences of the messages that it is spread over."""
    body: bytes | tuple[int, ...]

    def dumped(self) -> bytes:
        parts = [part for part in (self.head, self.body) if isinstance(part, bytes)]
        places = [len(part) if isinstance(part, bytes) else part for part in (self.head, self.body)]
        line = {**asdict(self.note, recurse=False), "places": places}
        return b"\n".join([json.dumps(line, separators=(",", ":")).encode(), b"".join(parts)])

    @classmethod
    def loaded(cls, data: bytes) -> "Commit":
        line, _, inline = data.partition(b"\n")
        values: dict[str, Any] = json.loads(line)
        head, body = values.pop("places")
        size = head if isinstance(head, int) else 0
        return cls(
            note=Note(
                expires_at=values["expires_at"],
                end=Position(*values["end"]) if values["end"] else None,
                tail=Tail(*values["tail"]),
                segments={stage: tuple(Segment(*one) for one in some) for stage, some in values["segments"].items()},
                archives=tuple(
                    Archive(tuple(sequences), size, written_at, Position(*end))
                    for sequences, size, written_at, end in values["archives"]
                ),
                is_renewal=values["is_renewal"],
            ),
            head=inline[:size] if isinstance(head, int) else tuple(head),
            body=inline[size:] if isinstance(body, int) else tuple(body),
        )


def folded(bodies: Iterable[Body]) -> dict[str, tuple[bool, str]]:
    """What several commits, in order, have done to each text: whether it began anew, and what came to it since."""
    begun: dict[str, bool] = {}
    pieces: dict[str, list[str]] = {}
    for body in bodies:
        for stage, (begins, text) in body.texts.items():
            if begins:
                begun[stage], pieces[stage] = True, []
            pieces.setdefault(stage, []).append(text)
    return {stage: (begun.get(stage, False), "".join(several)) for stage, several in pieces.items()}
