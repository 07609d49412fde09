"""What a viewer is shown, recorded, with assertions that say what was shown instead."""

import time
from collections.abc import Callable, Mapping, Sequence
from difflib import ndiff
from typing import Any, Protocol, TypeAlias

Message: TypeAlias = Mapping[str, Any]

PATIENCE = 5.0
"""Seconds that an assertion waits for what it expects."""
AT_ONCE = 0.05
"""Seconds in which more than what is expected would come."""


class Source(Protocol):
    """`RedisStreamSubscriber.get_message`, or a viewer's."""

    def __call__(self, timeout: float, /) -> Message | None: ...


class Recorder:
    """Messages in the order of their delivery. Each property takes in what has come; assertions wait for more.

    A word of a message is its type, or its status where it is a `stage_update`; tokens in a row are one word.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._messages = list[Message]()
        self._is_over = False
        """Nothing more will come."""

    @property
    def messages(self) -> list[Message]:
        """All so far."""
        while self._take(0.0):
            pass
        return list(self._messages)

    @property
    def types(self) -> list[str]:
        """The type of each message."""
        return [message["type"] for message in self.messages]

    @property
    def words(self) -> list[str]:
        """The messages in words."""
        return _words(self.messages)

    @property
    def text(self) -> str:
        """The text as the token messages alone build it up; `done` is not trusted."""
        text = ""
        for message in self.messages:
            if message["type"] == "reset":
                text = ""
            elif message["type"] == "token":
                content: str = message["content"]
                is_whole = message.get("snapshot") or message.get("full_text") == content
                text = content if is_whole else text + content
        return text

    def wait_for(self, word: str, timeout: float = PATIENCE) -> Message:
        """The first message with that word, now or within `timeout` seconds."""
        self._until(lambda: any(_word(message) == word for message in self._messages), timeout)
        for message in self._messages:
            if _word(message) == word:
                return message
        raise AssertionError(f"no {word!r} within {timeout} s; {self._shown()}")

    def assert_sequence(self, *expected: str, timeout: float = PATIENCE) -> None:
        """Exactly these words have been shown, now or within `timeout` seconds, and no more follow at once."""
        wanted = list(expected)
        self._until(lambda: (found := _words(self._messages)) == wanted or found != wanted[: len(found)], timeout)
        while self._take(AT_ONCE):
            pass
        found = _words(self._messages)
        if found != wanted:
            difference = "\n".join(f"  {line}" for line in ndiff(wanted, found) if not line.startswith("?"))
            raise AssertionError(f"other messages than expected (-) were shown (+):\n{difference}\n{self._shown()}")

    def assert_text(self, expected: str, timeout: float = PATIENCE) -> None:
        """The tokens have made this text, now or within `timeout` seconds."""
        self._until(lambda: self.text == expected, timeout)
        assert self.text == expected, self._shown()

    def _until(self, reached: Callable[[], bool], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not reached() and not self._is_over and (left := deadline - time.monotonic()) > 0:
            self._take(left)

    def _take(self, timeout: float) -> bool:
        message = self._source(timeout)
        if message is not None:
            self._messages.append(message)
        return message is not None

    def _shown(self) -> str:
        return "shown: " + (", ".join(_described(message) for message in self._messages) or "nothing")


def _word(message: Message) -> str:
    word: str = message["status"] if message["type"] == "stage_update" else message["type"]
    return word


def _words(messages: Sequence[Message]) -> list[str]:
    found = list[str]()
    for message in messages:
        if (word := _word(message)) != "token" or found[-1:] != ["token"]:
            found.append(word)
    return found


def _described(message: Message) -> str:
    detail = message.get("content") or message.get("error") or message.get("message")
    return _word(message) + (f"({detail!r})" if detail else "")
