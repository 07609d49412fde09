"""Text as JavaScript counts it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.domain.text import is_sound, prefix, repaired, split_trailing_surrogate, units

ANY = st.text(st.characters())
"""Any text, lone surrogates included."""
SOUND = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("text", "count"), [("", 0), ("abc", 3), ("文字", 2), ("😀", 2), ("a😀b", 4), ("\ud83d", 1), ("e\u0301", 2)]
)
def test_units_are_utf_16(text: str, count: int) -> None:
    """Characters beyond the basic plane count twice."""
    assert units(text) == count


@given(ANY, ANY)
def test_units_add_up(one: str, other: str) -> None:
    """The offset of a token is the sum of what came before, also where a pair is split between two."""
    assert units(one + other) == units(one) + units(other)


@given(SOUND, st.integers(0, 40))
def test_prefix_is_never_longer_and_never_torn(text: str, count: int) -> None:
    """A prefix has at most so many units, is sound, and lacks at most half a pair."""
    cut = prefix(text, count)
    assert text.startswith(cut)
    assert is_sound(cut)
    assert min(count, units(text)) - units(cut) in {0, 1}


@given(ANY)
def test_repaired_text_can_be_encoded(text: str) -> None:
    """Repairing joins pairs and replaces what is lone, and leaves sound text as it is."""
    fixed = repaired(text)
    assert is_sound(fixed)
    assert units(fixed) == units(text)
    if is_sound(text):
        assert fixed == text


def test_repaired_pairs_are_joined() -> None:
    """Two halves beside each other are one character; a lone half is U+FFFD."""
    assert repaired("\ud83d\ude00") == "😀"
    assert repaired("a\ud83d") == "a\ufffd"
    assert repaired("\ude00\ud83d") == "\ufffd\ufffd"


def test_a_trailing_high_surrogate_waits() -> None:
    """The first half of a pair at the end is split off; a low one is not, for nothing can follow it."""
    assert split_trailing_surrogate("a\ud83d") == ("a", "\ud83d")
    assert split_trailing_surrogate("a\ude00") == ("a\ude00", "")
    assert split_trailing_surrogate("a") == ("a", "")
    assert split_trailing_surrogate("") == ("", "")
