"""One viewer with a blocking socket, who reads a stream until it holds the whole text, and tells what that took."""

import json
import socket
import time
from typing import Any

from attrs import define

RECEIVE = 1 << 20


@define
class Reading:
    """What one viewer got."""

    seconds: float
    """From before the connection was opened until the text was whole; until giving up where it was not."""
    is_whole: bool
    messages: int
    """Messages with text."""
    bytes: int
    """Bytes on the wire, HTTP included."""


def read_text(host: str, port: int, path: str, expected: str, seconds: float) -> Reading:
    """Connect and read until the text equals `expected`, at most `seconds` long."""
    began = time.perf_counter()
    deadline = began + seconds
    pieces: list[str] = []
    length = messages = received = 0
    raw, body = bytearray(), bytearray()
    in_body = False
    with socket.create_connection((host, port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n".encode())
        while (left := deadline - time.perf_counter()) > 0:
            connection.settimeout(left)
            try:
                data = connection.recv(RECEIVE)
            except TimeoutError:
                break
            if not data:
                break
            received += len(data)
            raw += data
            if not in_body:
                if (end := raw.find(b"\r\n\r\n")) < 0:
                    continue
                del raw[: end + 4]
                in_body = True
            _dechunk(raw, body)
            for message in _messages(body):
                if (whole := message.get("full_text")) is not None or message.get("offset") == 0:
                    pieces = [whole if whole is not None else message["content"]]
                    length = len(pieces[0])
                elif "content" in message:
                    pieces.append(message["content"])
                    length += len(message["content"])
                else:
                    continue
                messages += 1
            if length >= len(expected):
                whole_text = "".join(pieces)
                took = time.perf_counter() - began
                return Reading(took, whole_text == expected, messages, received)
    return Reading(time.perf_counter() - began, False, messages, received)


def _dechunk(raw: bytearray, body: bytearray) -> None:
    """Move the complete chunks of `raw` into `body`."""
    while (line := raw.find(b"\r\n")) >= 0:
        size = int(raw[:line], 16)
        if len(raw) < line + 2 + size + 2:
            return
        body += raw[line + 2 : line + 2 + size]
        del raw[: line + 2 + size + 2]
        if not size:
            return


def _messages(body: bytearray) -> list[dict[str, Any]]:
    """Take the complete blocks out of `body`: the JSON of their `data:` lines."""
    end = body.rfind(b"\n")
    lines = bytes(body[: end + 1]).splitlines()
    del body[: end + 1]
    return [
        json.loads(line[5:])
        for line in lines
        if line.startswith(b"data:") and line[5:].lstrip().startswith(b"{")  # a peer's own notices are no JSON
    ]
