"""What does not stand in a commit's own message: large heads and bodies, and what the last commits have added to the
texts and the log, gathered into segments and archives.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import TypeVar

from attrs import evolve

from stagecast.adapters.transport import Entry
from stagecast.domain.positions import Position

from .commits import ARCHIVE, LOG, TEXT, Archive, Body, Commit, Note, Segment, Tail, dumped, folded, loaded
from .stream import Stream

SMALL = 65_536
"""Bytes below which the last segment or archive is written anew with what comes to it."""
LARGE = 4 * SMALL


class Gone(Exception):
    """Something that a commit refers to is not in the stream."""


async def put(stream: Stream, kind: str, key: str, data: bytes) -> tuple[int, ...]:
    """Store `data` in as many messages as it needs; their sequences."""
    size = stream.room
    return tuple([await stream.append(kind, key, data[at : at + size]) for at in range(0, len(data), size)])


async def whole(stream: Stream, data: bytes | Sequence[int]) -> bytes:
    """What `put` has stored, or what stands in the commit itself. Raises Gone."""
    return data if isinstance(data, bytes) else b"".join(await asyncio.gather(*(_at(stream, one) for one in data)))


async def tail_of(stream: Stream, key: str, tail: Tail, sequence: int) -> list[Body]:
    """What the commits of the tail have added, up to the one with this sequence. Raises Gone."""
    bodies: list[Body] = []
    since = tail.since
    while tail.filled and since <= sequence:
        messages = [one for one in await stream.following(LOG, key, since, tail.commits) if one.sequence <= sequence]
        if not messages:
            break
        since = messages[-1].sequence + 1
        commits = [Commit.loaded(message.data) for message in messages]
        filled = [commit.body for commit in commits if not commit.note.is_renewal]
        bodies += [Body.loaded(data) for data in await asyncio.gather(*(whole(stream, body) for body in filled))]
    if len(bodies) != tail.filled:
        raise Gone
    return bodies


async def texts_of(stream: Stream, key: str, note: Note, sequence: int) -> dict[str, str]:
    """Each stage's text as of the commit with this note and sequence. Raises Gone."""
    tail, olds = await asyncio.gather(
        tail_of(stream, key, note.tail, sequence),
        asyncio.gather(*(_text(stream, several) for several in note.segments.values())),
    )
    texts = {stage: old.decode() for stage, old in zip(note.segments, olds, strict=True)}
    for stage, (begins, text) in folded(tail).items():
        texts[stage] = text if begins else texts.get(stage, "") + text
    return texts


async def log_of(
    stream: Stream, key: str, note: Note, sequence: int, after: Position | None, count: int
) -> list[Entry]:
    """The log's first entries after `after`, as of the commit with this note and sequence. Raises Gone."""
    entries: list[Entry] = []
    for archive in note.archives:
        if len(entries) >= count:
            return entries[:count]
        if after is None or archive.end > after:
            entries += [one for one in await _archived(stream, archive) if after is None or one[0] > after]
    for body in await tail_of(stream, key, note.tail, sequence):
        entries += [one for one in body.entries if after is None or one[0] > after]
    return entries[:count]


async def gathered(
    stream: Stream, key: str, note: Note, sequence: int, *, keep: int, now: float, horizon: float
) -> Note:
    """The note with an empty tail, and with nothing written before `horizon`. Raises Gone.

    Archives that the log need not have to keep `keep` entries are left out.
    """
    bodies = await tail_of(stream, key, note.tail, sequence)
    segments = dict(note.segments)
    news = folded(bodies)
    for stage in {**segments, **news}:
        begins, text = news.get(stage, (False, ""))
        kept, again = _split(() if begins else segments.get(stage, ()), horizon, grows=bool(text))
        data = await _text(stream, again) + text.encode()
        size = min(LARGE, stream.room)
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        new = [Segment(await stream.append(TEXT, key, piece), len(piece), now) for piece in pieces]
        segments[stage] = (*kept, *new)
    least = Position(note.end.epoch, note.end.n - keep) if note.end else Position(0, 0)
    added = [entry for body in bodies for entry in body.entries]
    wanted = [one for one in note.archives if one.end > least]
    archived, to_archive = _split(wanted, horizon, grows=bool(added))
    entries = [entry for archive in to_archive for entry in await _archived(stream, archive)] + added
    archives = [
        Archive(await put(stream, ARCHIVE, key, lines), len(lines), now, end) for lines, end in _in_pieces(entries)
    ]
    return evolve(
        note,
        tail=Tail(sequence + 1),
        segments={stage: several for stage, several in segments.items() if several},
        archives=(*archived, *archives),
    )


_Piece = TypeVar("_Piece", Segment, Archive)


def _split(pieces: Sequence[_Piece], horizon: float, *, grows: bool) -> tuple[Sequence[_Piece], Sequence[_Piece]]:
    """Those that stay, and those at the end that are written anew: from the first that is old, or a last small one."""
    if any(piece.written_at < horizon for piece in pieces):
        return (), pieces
    at = len(pieces) - 1 if grows and pieces and pieces[-1].size < SMALL else len(pieces)
    return pieces[:at], pieces[at:]


def _in_pieces(entries: Sequence[Entry]) -> Iterator[tuple[bytes, Position]]:
    """Lines for an archive, and the position of their last entry."""
    lines: list[bytes] = []
    for number, entry in enumerate(entries, 1):
        lines.append(dumped([entry]))
        if number == len(entries) or sum(map(len, lines)) >= LARGE:
            yield b"".join(lines), entry[0]
            lines.clear()


async def _archived(stream: Stream, archive: Archive) -> Sequence[Entry]:
    """Its entries; none where they are gone, which readers notice as a gap."""
    try:
        return loaded(await whole(stream, archive.sequences))
    except Gone:
        return ()


async def _text(stream: Stream, segments: Sequence[Segment]) -> bytes:
    pieces = await asyncio.gather(*(_at(stream, one.sequence) for one in segments))
    if any(len(piece) != one.size for piece, one in zip(pieces, segments, strict=True)):
        raise Gone
    return b"".join(pieces)


async def _at(stream: Stream, sequence: int) -> bytes:
    if (message := await stream.at(sequence)) is None:
        raise Gone
    return message.data
