"""What the codec does not know: later fields and types, malformed messages, broken lines, callers' own messages."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.adapters.codec import message_of
from stagecast.domain.events import (
    CustomEvent,
    Event,
    ProgressReported,
    StageCompleted,
    StageFailed,
    TokenEmitted,
)
from stagecast.domain.topics import Topic
from tests.adapters.wire import CODEC, SEED, TIME, TOPIC, line, make


class TestPassingThrough:
    """What this version does not know."""

    def test_unknown_fields_are_kept(self) -> None:
        """A field of a later version, or a user's own, comes out as it went in."""
        message = {**SEED["progress"][1], "eta_seconds": 5, "nested": {"a": [1]}}
        event = CODEC.decode(line({"v": 1}, message))
        assert isinstance(event, ProgressReported)
        assert event.extra == {"eta_seconds": 5, "nested": {"a": [1]}}
        assert message_of(event) == message
        assert CODEC.decode(CODEC.encode(event)) == event

    def test_unknown_header_fields_are_no_error(self) -> None:
        """A later version may add to the header."""
        event, message = SEED["error"]
        assert CODEC.decode(line({"v": 2, "later": [1], "topic": None}, message)) == event

    def test_unknown_types_are_kept(self) -> None:
        """A type that stagecast does not know passes through untouched, in place and time of its topic."""
        message: dict[str, Any] = {"type": "thumbnail", "url": "/1.png", "project_id": 7, "stage": ["odd"]}
        event = make(CustomEvent, message=message, headers={"trace": "1"})
        again = CODEC.decode(CODEC.encode(event))
        assert again == event
        assert message_of(again) == message

    @pytest.mark.parametrize(
        "change",
        [
            {"type": "progress", "current": "7"},
            {"type": "token", "content": 7},
            {"type": "token", "content": None},
            {"type": "stage_update", "status": None},
            {"type": "stage_update", "status": "x", "progress": "50"},
            {"type": "stage_update", "status": "x", "progress": True},
            {"type": "item_completed", "item_type": "image", "sequence_number": "1"},
            {"type": "item_completed", "item_type": "image", "sequence_number": 1.0},
            {"type": "done", "full_text": 5},
            {"type": "done", "metadata": [1]},
            {"type": "error"},
            {"type": "error", "error": "x", "retry_count": "1"},
            {"type": "error", "error": {"code": 1}},
            {"type": "stage_completed", "timestamp": "now"},
            {"type": "run_opened"},
        ],
        ids=str,
    )
    def test_malformed_messages_of_known_types_are_kept(self, change: dict[str, Any]) -> None:
        """Nothing is guessed: a message that does not fit its type passes through as it is."""
        message = {"stage": "rewrite", "project_id": "123", "timestamp": TIME, **change}
        event = CODEC.decode(line({"v": 1, "offset": 0}, message))
        assert isinstance(event, CustomEvent)
        assert message_of(event) == message
        assert (event.project, event.stage) == ("123", "rewrite")

    def test_an_unknown_reason_is_still_an_end(self) -> None:
        """An `error` with a reason of a later version or a user's own ends its run all the same."""
        message = {**SEED["error"][1], "reason": "quota"}
        event = CODEC.decode(line({"v": 1}, message))
        assert isinstance(event, StageFailed)
        assert message_of(event) == message

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\t",
            b"{}\t",
            b"{}",
            b"[]\t[]",
            b"1\t2",
            b"null\tnull",
            b'{"v":1}\t{"type":"token"',
            b'{"v":1,"headers":7}\t{}',
            b'{"v":1,"headers":["x"]}\t{}',
            b'{"v":1,"topic":7}\t{}',
            b'{"v":1,"topic":["a"]}\t{}',
            b'{"v":1,"topic":["a","b","c"]}\t{}',
            b'{"v":1}\t{"type":["token"]}',
            b'{"v":1}\t{"type":{"a":1}}',
            b'{"v":1,"offset":"0"}\t{"type":"token","content":"x","stage":"a","project_id":"b","timestamp":1}',
            b"\xff\xfe\t\xff",
            b"[" * 100_000,
            b"{}\t" + b"[" * 100_000,
        ],
        ids=lambda data: ascii(data[:40]),
    )
    def test_broken_lines_never_raise(self, data: bytes) -> None:
        """Whatever stands in the log, a reader goes on."""
        event = CODEC.decode(data)
        assert isinstance(event, CustomEvent)
        assert CODEC.decode(CODEC.encode(event)) == event

    @given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
    def test_no_line_ever_raises(self, data: bytes) -> None:
        """Any bytes at all."""
        assert isinstance(CODEC.decode(data), Event)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["type", "topic", "headers", "offset", "stage", "project_id", "timestamp", "run"]),
                    inner,
                )
            ),
        ),
        st.dictionaries(
            st.sampled_from(["type", "stage", "project_id", "timestamp", "content", "status", "error", "full_text"]),
            st.sampled_from(["token", "done", "error", "stage_update", 1, 1.5, None, [], {}]),
        ),
    )
    def test_no_json_ever_raises(self, header: object, message: object) -> None:
        """Any JSON in the place of header and message."""
        assert isinstance(CODEC.decode(line(header, message)), Event)


class TestParsing:
    """A caller's own message dict, the seed's `publish(message)`."""

    @pytest.mark.parametrize("name", SEED)
    def test_messages_of_known_types_become_events(self, name: str) -> None:
        """They count as if the method of that type had been called."""
        event, message = SEED[name]
        parsed = CODEC.parse(Topic("123", event.stage), message, 1.0)
        assert type(parsed) is type(event)
        assert message_of(parsed) == message

    def test_topic_and_time_are_the_publishers(self) -> None:
        """A missing timestamp is added; stage and project are never the message's own."""
        parsed = CODEC.parse(TOPIC, {"type": "error", "error": "x", "stage": "other", "project_id": 9}, 5.0)
        assert parsed == StageFailed(project="123", stage="rewrite", timestamp=5.0, error="x")

    def test_done_may_lack_its_text(self) -> None:
        """The seed's own callers leave it out."""
        parsed = CODEC.parse(TOPIC, {"type": "done"}, 5.0)
        assert parsed == StageCompleted(project="123", stage="rewrite", timestamp=5.0, full_text=None)

    @pytest.mark.parametrize(
        "message", [{"type": "thumb"}, {"text": "no type"}, {}, {"type": "run_opened", "run": "x"}]
    )
    def test_other_messages_pass_through(self, message: dict[str, Any]) -> None:
        """With a timestamp added, and nothing else; the bus's own type cannot be forged."""
        parsed = CODEC.parse(TOPIC, message, 5.0)
        assert isinstance(parsed, CustomEvent)
        assert parsed.message == {**message, "timestamp": 5.0}

    @pytest.mark.parametrize("tag", [["token"], {"a": 1}, 7, None, True])
    def test_a_type_that_is_no_text_passes_through(self, tag: Any) -> None:
        """Whatever a caller puts there is no error."""
        assert isinstance(CODEC.parse(TOPIC, {"type": tag}, 5.0), CustomEvent)

    def test_an_id_is_not_taken_over(self) -> None:
        """`id` is the position, which the bus gives."""
        parsed = CODEC.parse(TOPIC, {"type": "thumb", "id": "forged"}, 5.0)
        assert isinstance(parsed, CustomEvent)
        assert "id" not in parsed.message
        assert "id" not in CODEC.parse(TOPIC, {"type": "done", "id": "forged"}, 5.0).extra

    def test_a_token_begins_where_the_publisher_says(self) -> None:
        """An offset or snapshot mark in a caller's message has no power."""
        parsed = CODEC.parse(TOPIC, {"type": "token", "content": "x", "offset": 99, "snapshot": False}, 5.0)
        assert parsed == TokenEmitted(project="123", stage="rewrite", timestamp=5.0, content="x", offset=0)
