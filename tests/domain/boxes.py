"""An outbox and its events in short form, for the tests of the outbox."""

from collections.abc import Sequence
from functools import partial

from stagecast.domain.events import (
    ItemCompleted,
    ProgressReported,
    StageCompleted,
    StageRefreshed,
    StageUpdated,
    TokenEmitted,
)
from stagecast.domain.outbox import Outbox, OutboxLimits, Sending
from stagecast.domain.text import units

MAX_BYTES = 100_000


def make_outbox(max_bytes: int = MAX_BYTES, **limits: int) -> Outbox:
    make_token = partial(TokenEmitted, project="1", stage="rewrite")
    return Outbox(make_token, lambda: 1.0, OutboxLimits(**limits), max_bytes)


def update(status: str = "processing") -> StageUpdated:
    return StageUpdated(project="1", stage="rewrite", timestamp=1.0, status=status)


def item(number: int) -> ItemCompleted:
    return ItemCompleted(project="1", stage="rewrite", timestamp=1.0, item_type="image", sequence_number=number)


def progress(current: int) -> ProgressReported:
    return ProgressReported(project="1", stage="rewrite", timestamp=1.0, current=current, total=9, progress=0)


def done() -> StageCompleted:
    return StageCompleted(project="1", stage="rewrite", timestamp=1.0, full_text=None)


def refreshed() -> StageRefreshed:
    return StageRefreshed(project="1", stage="rewrite", timestamp=1.0)


def told(batch: Sequence[Sending]) -> list[str]:
    """A batch in short: the statuses, types, and tokens as `offset:content`, a whole text with `=`."""
    words = []
    for sent in batch:
        match sent.event:
            case TokenEmitted() as token:
                words.append(f"{token.offset}{'=' if token.snapshot else ':'}{token.content}")
            case StageUpdated() as status:
                words.append(status.status)
            case ItemCompleted() as one:
                words.append(f"item{one.sequence_number}")
            case event:
                words.append(event.type)
    return words


def drain(outbox: Outbox) -> list[list[str]]:
    """All batches, each acknowledged."""
    batches = []
    while batch := outbox.take():
        outbox.settle(batch)
        batches.append(told(batch))
    return batches


def text_of(words: Sequence[str]) -> str:
    """The text that tokens make for a reader."""
    text = ""
    for word in words:
        offset, mark, content = word.partition(":" if ":" in word and "=" not in word.partition(":")[0] else "=")
        if mark and offset.isdigit():
            assert int(offset) in {0, units(text)}
            text = content if offset == "0" else text + content
    return text
