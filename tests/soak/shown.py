"""One stage as one viewer rebuilds it from token messages alone, and what is wrong with it. Knows no other viewer."""

import re
from itertools import pairwise
from typing import Literal, TypeAlias

from attrs import Factory, define, frozen

from stagecast.domain.text import units

from .journal import Handed
from .records import Record, checksum

Fault: TypeAlias = Literal["lost", "duplicated", "out of order", "mixed", "unknown", "no end", "falling id", "refused"]

_NAME = re.compile(r"⟦([^:⟧]+):(\d+)⟧")


@frozen
class Violation:
    """A promise that was broken."""

    fault: Fault
    session: str
    key: str
    detail: str


@define
class Shown:
    """The text and the items of a stage that a viewer has, with what went wrong on the way."""

    stage: str
    faults: list[tuple[Fault, str]] = Factory(list)
    pieces: list[str] = Factory(list)
    length: int = 0
    whole: int = 0
    """The checksum of the text."""
    items: dict[str, list[int]] = Factory(dict)
    """Of each text: those of an earlier attempt stay the run's own."""
    is_lost: bool = False
    """Whether the text has a hole: the rest of it tells nothing new."""

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def key(self) -> str | None:
        """Which text it is, by its first piece."""
        found = _NAME.match(self.pieces[0]) if self.pieces else None
        return found[1] if found else None

    def reset(self) -> None:
        """What was shown counts no more."""
        self.pieces, self.length, self.whole, self.items, self.is_lost = [], 0, 0, {}, False

    def add_token(self, record: Record) -> str | None:
        """Take a token in; the text that it has replaced, where it begins one anew."""
        _, _, _, offset, content, whole = record
        replaced = None
        if offset == 0 and self.length:
            replaced = self.text
            if _names(content)[:1] == _names(replaced)[:1] and not content.startswith(replaced):
                self.faults.append(("lost", f"the text went back from {self.length} to {units(content)}"))
            self.reset()
        elif self.is_lost:
            if offset == self.length and self.faults and self.faults[-1][0] == "lost":  # what was missing comes later
                self.faults[-1] = "out of order", self.faults[-1][1]
            return None
        elif offset != self.length:
            self.faults.append(self._gap(offset, content))
            self.is_lost = self.faults[-1][0] != "duplicated"  # what comes twice changes nothing
            return None
        self.pieces.append(content)
        self.length += units(content)
        self.whole = checksum(content, self.whole)
        if whole is not None and whole != self.whole:
            self.faults.append(("lost", f"full_text is not what the tokens make, at {self.length}"))
        return replaced

    def add_item(self, number: int, key: str) -> None:
        items = self.items.setdefault(key, [])
        if number in items:
            self.faults.append(("duplicated", f"item {number} of {key}"))
        elif items and number < items[-1]:
            self.faults.append(("out of order", f"item {number} of {key} after {items[-1]}"))
        items.append(number)

    def _gap(self, offset: int, content: str) -> tuple[Fault, str]:
        at = f"{content[:24]!r} at {offset}, where {self.length} units stand"
        if offset > self.length:
            return "lost", at
        return ("duplicated" if content in self.text else "out of order"), at


def compared(text: str, handed: Handed) -> tuple[Fault, str] | None:
    """What is wrong with a text that a viewer had, which must be the beginning of what was handed over."""
    if handed.text.startswith(text):
        return None
    names = _names(text)
    if strangers := {key for key, _ in names if key != handed.key}:
        return "mixed", f"has tokens of {', '.join(sorted(strangers))}"
    numbers = [number for _, number in names]
    for before, after in pairwise(numbers):
        at = f"token {after} after {before}"
        if numbers.count(after) > 1:
            return "duplicated", at
        if after < before:
            return "out of order", at
        if after != before + 1 and numbers.count(before + 1):
            return "out of order", at
        if after != before + 1:
            return "lost", at
    return "unknown", f"is not what was handed over, though its tokens are in order: ends in {text[-24:]!r}"


def _names(text: str) -> list[tuple[str, int]]:
    return [(key, int(number)) for key, number in _NAME.findall(text)]
