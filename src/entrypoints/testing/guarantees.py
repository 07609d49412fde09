"""The port's guarantees by their numbers, as `stagecast.domain.bus` states them: they explain failing tests."""

import re
from collections.abc import Mapping
from functools import cache

from attrs import frozen

import stagecast.domain.bus

PAGE = "docs/extending.md"
_ITEM = re.compile(r"^(\d+)\. (\*\*([^*]+?)\.?\*\*.*?)(?=^\d+\. |^$)", re.MULTILINE | re.DOTALL)
_TEST = re.compile(r"test_(\d\d)_")


@frozen
class Guarantee:
    """One numbered guarantee."""

    number: int
    title: str
    text: str

    @property
    def link(self) -> str:
        """Where to read what to do about it."""
        return f"{PAGE}#guarantee-{self.number}"


@cache
def guarantees() -> Mapping[int, Guarantee]:
    """All of them. None where Python was told to drop docstrings."""
    found = _ITEM.findall(stagecast.domain.bus.__doc__ or "")
    return {
        int(number): Guarantee(int(number), title, " ".join(text.replace("**", "").split()))
        for number, text, title in found
    }


def guarantee_of(test: str) -> Guarantee | None:
    """The guarantee that a test of the contract belongs to, by the number in its name."""
    found = _TEST.match(test)
    return guarantees().get(int(found[1])) if found else None
