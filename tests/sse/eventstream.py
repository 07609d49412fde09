"""A parser of event streams by the letter of the HTML standard (section 9.2.6), for what a browser would see."""

import codecs
import json
import re
from typing import Any

from attrs import Factory, define

Message = dict[str, Any]
_LINE_END = re.compile("\r\n|\n|\r")


@define
class Dispatched:
    """One event as a browser's `onmessage` gets it."""

    type: str
    data: str
    last_event_id: str
    own_id: str | None
    """The id in the event's own block; a browser cannot tell, a test can."""

    @property
    def message(self) -> Message:
        found: Message = json.loads(self.data)
        return found


@define
class EventStreamParser:
    """Takes bytes in any portions; keeps what was dispatched, and what a browser keeps."""

    events: list[Dispatched] = Factory(list)
    last_event_id: str = ""
    retry: int | None = None
    comments: list[str] = Factory(list)
    blocks: list[list[str]] = Factory(list)
    """The lines of each block, comments included."""
    raw: bytearray = Factory(bytearray)
    _decoder: codecs.IncrementalDecoder = Factory(lambda: codecs.getincrementaldecoder("utf-8")("strict"))
    _text: str = ""
    _searched: int = 0
    _begun: bool = False
    _lines: list[str] = Factory(list)

    def feed(self, data: bytes) -> None:
        self.raw += data
        text = self._decoder.decode(data)
        if text and not self._begun:
            self._begun = True
            text = text.removeprefix("\ufeff")
        self._text += text
        while (line := self._next_line()) is not None:
            if line:
                self._lines.append(line)
            else:
                self._dispatch()

    def _next_line(self) -> str | None:
        found = _LINE_END.search(self._text, self._searched)
        if found is None or (found.group() == "\r" and found.end() == len(self._text)):  # a LF may follow
            self._searched = len(self._text) if found is None else found.start()
            return None
        line, self._text = self._text[: found.start()], self._text[found.end() :]
        self._searched = 0
        return line

    def _dispatch(self) -> None:
        data: list[str] = []
        type_, own_id = "message", None
        for line in self._lines:
            if line.startswith(":"):
                self.comments.append(line[1:].removeprefix(" "))
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "event":
                    type_ = value
                case "data":
                    data.append(value)
                case "id" if "\0" not in value:
                    own_id = self.last_event_id = value
                case "retry" if value.isascii() and value.isdigit():
                    self.retry = int(value)
        if self._lines:
            self.blocks.append(self._lines)
        self._lines = []
        if data:
            self.events.append(Dispatched(type_, "\n".join(data), self.last_event_id, own_id))


def parsed(data: bytes) -> EventStreamParser:
    """What a browser makes of a whole stream."""
    parser = EventStreamParser()
    parser.feed(data)
    return parser


def types(messages: list[Message]) -> list[str]:
    """The type of each message."""
    return [message["type"] for message in messages]
