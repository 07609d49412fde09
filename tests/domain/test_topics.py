"""Ids and topics: what is accepted, what is refused, and how the message names it."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.adapters.codec import JsonCodec
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import Batch, Opening
from stagecast.domain.errors import InvalidTopic, StagecastError
from stagecast.domain.topics import Topic, identifier


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("rewrite", "rewrite"),
        ("a", "a"),
        ("x" * 128, "x" * 128),
        (123, "123"),
        (0, "0"),
        (-1, "-1"),
        (UUID("12345678-1234-5678-1234-567812345678"), "12345678-1234-5678-1234-567812345678"),
        ("项目-1", "项目-1"),
        ("a.b_c~d@e!f", "a.b_c~d@e!f"),
        ("...", "..."),
        ("😀", "😀"),
    ],
)
def test_identifiers_become_text(value: str | int | UUID, text: str) -> None:
    """Text, ints and UUIDs are ids."""
    assert identifier(value) == text


@pytest.mark.parametrize(
    "character",
    [*":/*?[]{}\\ \t\n\r\x00\x1f\x7f\x85\xa0\u2003\u2028\u200b\u202e\u2066\u2069\u061c\ufeff\ufffd\ud800"],
)
def test_separators_globs_and_blanks_are_refused(character: str) -> None:
    """Whatever means something in a key, a pattern, a path or a terminal is refused, wherever it stands."""
    for value in (character, f"a{character}", f"{character}b", f"a{character}b"):
        with pytest.raises(InvalidTopic, match="stage name must not contain"):
            identifier(value, "stage name")


@pytest.mark.parametrize("value", ["", "x" * 129, ".", ".."])
def test_lengths_and_dots_are_refused(value: str) -> None:
    """1 to 128 characters, and nothing that a client resolves inside a path."""
    with pytest.raises(InvalidTopic, match="project id must"):
        identifier(value, "project id")


@pytest.mark.parametrize("value", [None, True, False, 1.5, b"x", ["x"], object()])
def test_other_types_are_refused(value: object) -> None:
    """No silent conversion: a None or a float in a URL is a caller's mistake."""
    with pytest.raises(InvalidTopic, match="must be text, an int or a UUID"):
        identifier(value)  # type: ignore[arg-type]


def test_refusals_are_value_errors() -> None:
    """A caller that knows nothing of stagecast can catch ValueError; one that does, StagecastError."""
    for error in (ValueError, StagecastError):
        with pytest.raises(error):
            Topic.of("a:b")


def test_a_topic_names_what_is_wrong() -> None:
    """The message tells whether the project or the stage is at fault."""
    with pytest.raises(InvalidTopic, match="project id"):
        Topic.of("a b", "stage")
    with pytest.raises(InvalidTopic, match="stage name"):
        Topic.of("a", "*")


def test_a_topic_covers_its_stages() -> None:
    """A topic of one stage covers that one, a topic of a project all of them."""
    assert Topic.of(1, "a") == Topic("1", "a")
    assert Topic.of(1) == Topic("1", None)
    assert [Topic.of(1, "a").covers(stage) for stage in "ab"] == [True, False]
    assert [Topic.of(1).covers(stage) for stage in "ab"] == [True, True]


@given(st.text())
def test_accepted_ids_are_safe_everywhere(value: str) -> None:
    """Any text is refused or is an id that a key, a hash tag, a pattern and a header line carry unchanged."""
    try:
        text = identifier(value)
    except InvalidTopic:
        return
    assert text == value
    assert text.split() == [text]
    assert not set(text) & set(":/*?[]{}\\")
    assert text.encode().decode() == text
    assert text.isprintable() or not any(ord(character) < 32 for character in text)


async def test_a_topic_of_all_stages_is_refused_where_one_is_needed() -> None:
    """Publishing to, opening a run of, and cancelling all stages of a project raise InvalidTopic."""
    bus = MemoryBus(JsonCodec())
    topic = Topic("123")
    with pytest.raises(InvalidTopic):
        await bus.publish(Batch(topic=topic, producer="p", first=1))
    with pytest.raises(InvalidTopic):
        await bus.open_run(Opening(topic=topic, run="r", task="t", nonce="n", producer="p"))
    await bus.publish(Batch(topic=Topic("123", "rewrite"), producer="p", first=1))
    with pytest.raises(InvalidTopic):
        await bus.cancel(topic, "r")
