"""What a viewer makes of messages: the text as token messages alone build it up. Never trusts `done`."""

from collections.abc import Iterable, Mapping
from typing import Any

from stagecast import RedisStreamSubscriber
from stagecast.domain.events import JSON

Message = Mapping[str, Any]


def rebuilt(messages: Iterable[Message]) -> str:
    """The text of one stage's token messages; each must agree with its own `full_text`."""
    text = ""
    for message in messages:
        if message["type"] == "reset":
            text = ""
        elif message["type"] == "token":
            begins_anew = message["full_text"] == message["content"]
            text = message["content"] if begins_anew else text + message["content"]
            assert message["full_text"] == text
    return text


def told(messages: Iterable[Message]) -> list[str]:
    """The messages in short: a status, else a type; tokens in a row count once."""
    found: list[str] = []
    for message in messages:
        word = message["status"] if message["type"] == "stage_update" else message["type"]
        if word != "token" or found[-1:] != ["token"]:
            found.append(word)
    return found


def drained(subscriber: RedisStreamSubscriber, timeout: float = 0.3) -> list[dict[str, JSON]]:
    """Everything that `get_message` gives until it gives None."""
    messages: list[dict[str, JSON]] = []
    while (message := subscriber.get_message(timeout)) is not None:
        messages.append(message)
    return messages
