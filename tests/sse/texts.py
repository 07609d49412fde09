"""Texts rebuilt from token messages alone, as a viewer that trusts nothing else would."""

from collections.abc import Iterable

from tests.sse.eventstream import Message


def from_contents(messages: Iterable[Message]) -> str:
    """The text that the tokens' `content` makes; a reset, or a whole text, begins it anew."""
    text = ""
    for message in messages:
        if message["type"] == "reset":
            text = ""
        elif message["type"] == "token":
            text += message["content"]
            assert message["full_text"] == text, "full_text is not what the tokens make"
    return text


def from_deltas(messages: Iterable[Message]) -> str:
    """The text that tokens with `offset` make; a hole or an overlap fails."""
    text = bytearray()
    for message in messages:
        if message["type"] == "token":
            assert "full_text" not in message
            offset = 2 * message["offset"]
            assert offset in {0, len(text)}, "not continuous"
            del text[offset:]
            text += message["content"].encode("utf-16-le")
    return text.decode("utf-16-le")
