"""The bytes of server-sent events."""

import pytest

from stagecast.domain.events import JSON
from stagecast.domain.positions import Position
from stagecast.entrypoints.sse import framing
from tests.sse.eventstream import EventStreamParser, parsed

AT = Position(7, 3)


@pytest.mark.parametrize(
    ("made", "bytes_"),
    [
        (framing.event({"type": "token", "content": "a"}), b'data: {"type":"token","content":"a"}\n\n'),
        (framing.event({"type": "x"}, AT), b'id: 7-3\ndata: {"type":"x"}\n\n'),
        (framing.event({"message": "SSE连接已建立"}), 'data: {"message":"SSE连接已建立"}\n\n'.encode()),
        (framing.event({"content": "\n\r\0"}), b'data: {"content":"\\n\\r\\u0000"}\n\n'),
        (framing.id_only(AT), b"id: 7-3\n\n"),
        (framing.comment("hello"), b": hello\n\n"),
        (framing.HEARTBEAT, b": heartbeat\n\n"),
        (framing.retry(0), b"retry: 0\n\n"),
        (framing.retry(1500), b"retry: 1500\n\n"),
    ],
)
def test_blocks_have_their_exact_bytes(made: bytes, bytes_: bytes) -> None:
    """Each kind of block is written in one form."""
    assert made == bytes_


@pytest.mark.parametrize(
    "hostile",
    [
        "stage\ndata: x",
        "a\r\nid: 9-9",
        "a\rretry: 1",
        "\0",
        "line\u2028separator\u2029paragraph\u0085next",
        "\ufeff",
        " leading and trailing ",
        "\t\ttabs",
        "",
        "\x0b\x0c",
        "😀👨\u200d👩\u200d👧 连接",
    ],
)
@pytest.mark.parametrize("field", ["content", "stage", "type", "project_id"])
def test_no_value_ends_a_line_or_forges_a_field(hostile: str, field: str) -> None:
    """R67, R65: whatever a value holds, one event with exactly that value arrives, and nothing else."""
    made = framing.event({field: hostile}, AT)
    stream = parsed(made + framing.event({"type": "next"}))
    assert [event.message for event in stream.events] == [{field: hostile}, {"type": "next"}]
    assert [len(block) for block in stream.blocks] == [2, 1]
    assert made.count(b"\n") == 3
    assert stream.retry is None


@pytest.mark.parametrize("key", ["a\nb", "a\rb", "a: b"])
def test_no_key_ends_a_line(key: str) -> None:
    """R67: a custom message's own keys are escaped like its values."""
    assert parsed(framing.event({key: 1})).events[0].message == {key: 1}


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "\r\n"])
def test_comments_refuse_line_ends(text: str) -> None:
    """A comment that would break its line is a programming error."""
    with pytest.raises(ValueError, match="end the line"):
        framing.comment(text)


def test_retry_refuses_a_negative_time() -> None:
    """A browser would ignore it silently."""
    with pytest.raises(ValueError, match="0 or more"):
        framing.retry(-1)


def test_a_lone_surrogate_of_a_foreign_peer_does_not_stop_the_stream() -> None:
    """R72: what UTF-8 cannot carry travels as a JSON escape."""
    message: dict[str, JSON] = {"content": "a\ud83d"}
    assert framing.event(message) == b'data: {"content":"a\\ud83d"}\n\n'


@pytest.mark.parametrize("token", [" world", "  two", "\ttab", "", "\n", "    "])
def test_white_space_of_a_token_survives(token: str) -> None:
    """R69, R68: a token of spaces, tabs or line feeds arrives as it was."""
    assert parsed(framing.event({"content": token})).events[0].message == {"content": token}


def test_a_stream_fed_byte_by_byte_is_whole() -> None:
    """R73: portions may cut UTF-8 sequences and lines anywhere."""
    contents = ["连接", "😀", "é", "a\n\nb"]
    data = b"".join(framing.event({"content": content}, Position(1, n)) for n, content in enumerate(contents))
    parser = EventStreamParser()
    for byte in "\ufeff".encode() + data:
        parser.feed(bytes([byte]))
    assert [event.message["content"] for event in parser.events] == contents
    assert parser.last_event_id == "1-3"
