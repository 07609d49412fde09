"""The wire form: the seed's messages field for field, and every event read back as it was."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.adapters import codec as codec_module
from stagecast.adapters.codec import VERSION, dumps, message_of
from stagecast.domain.errors import InvalidEvent
from stagecast.domain.events import (
    FAILURE_REASONS,
    CustomEvent,
    Event,
    ItemCompleted,
    PipelineCompleted,
    PipelineFailed,
    ProgressReported,
    RunOpened,
    StageCompleted,
    StageFailed,
    StageRefreshed,
    StageUpdated,
    TokenEmitted,
)
from tests.adapters.wire import CODEC, LEFT_OUT, SEED, TIME, make


class TestMessages:
    """What foreign readers get."""

    @pytest.mark.parametrize("name", SEED)
    def test_messages_are_the_seeds(self, name: str) -> None:
        """Field for field, with the same values; nothing of ours is in the message."""
        event, message = SEED[name]
        assert message_of(event) == message
        body = CODEC.encode(event).partition(b"\t")[2]
        assert json.loads(body) == message
        assert CODEC.decode(CODEC.encode(event)) == event

    @pytest.mark.parametrize("name", LEFT_OUT)
    def test_what_was_not_given_is_left_out(self, name: str) -> None:
        """As in the seed: no nulls for fields that the caller did not give."""
        event, absent = LEFT_OUT[name]
        assert not absent & message_of(event).keys()
        assert CODEC.decode(CODEC.encode(event)) == event

    def test_falsy_values_are_not_left_out(self) -> None:
        """0 percent, an empty message and an empty mapping are values."""
        message = message_of(make(StageUpdated, status="processing", progress=0, message=""))
        assert (message["progress"], message["message"]) == (0, "")
        assert message_of(make(StageFailed, error=""))["retry_count"] == 0
        assert message_of(make(StageRefreshed, metadata={}))["metadata"] == {}

    def test_done_without_its_text_travels_without(self) -> None:
        """The stage's own text is put back by who reads."""
        event = make(StageCompleted, full_text=None)
        assert "full_text" not in message_of(event)
        assert CODEC.decode(CODEC.encode(event)) == event

    def test_reasons_are_told(self) -> None:
        """A failure that is no exception says what it was."""
        for reason in FAILURE_REASONS:
            event = make(StageFailed, error="x", reason=reason)
            assert message_of(event).get("reason", "exception") == reason
            assert CODEC.decode(CODEC.encode(event)) == event


class TestLines:
    """How an event is stored."""

    def test_a_line_is_header_tab_message(self) -> None:
        """Neither part has a raw tab or line feed, so lines are split and joined without being parsed."""
        event = make(TokenEmitted, content="a\tb\nc\r\u2028", offset=3, headers={"trace": "x\ty\n"})
        data = CODEC.encode(event)
        assert data.count(b"\t") == 1
        assert b"\n" not in data
        assert b"\r" not in data
        assert CODEC.decode(data) == event

    def test_the_header_holds_what_is_ours(self) -> None:
        """Version, offset, snapshot, headers, and all of an opening but its common fields."""
        token = make(TokenEmitted, content="x", offset=3, snapshot=True, headers={"traceparent": "00-1"})
        header = json.loads(CODEC.encode(token).partition(b"\t")[0])
        assert header == {"v": VERSION, "offset": 3, "snapshot": True, "headers": {"traceparent": "00-1"}}
        plain = json.loads(CODEC.encode(make(TokenEmitted, content="x", offset=0)).partition(b"\t")[0])
        assert plain == {"v": VERSION, "offset": 0}
        opening = make(RunOpened, run="r", attempt=2, fresh=False)
        head, _, body = CODEC.encode(opening).partition(b"\t")
        assert json.loads(head) == {"v": VERSION, "run": "r", "attempt": 2}
        assert json.loads(body) == {"type": "run_opened", "stage": "rewrite", "project_id": "123", "timestamp": TIME}
        assert CODEC.decode(CODEC.encode(opening)) == opening

    def test_text_is_not_escaped(self) -> None:
        """UTF-8 as it is: a Chinese character is 3 bytes, not 6."""
        assert "文".encode() in CODEC.encode(make(TokenEmitted, content="文", offset=0))

    def test_both_encoders_write_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With or without orjson, bytes and refusals are the same."""
        events = [event for event, _ in SEED.values()]
        assert codec_module.orjson is not None
        fast = [CODEC.encode(event) for event in events]
        monkeypatch.setattr(codec_module, "orjson", None)
        assert [CODEC.encode(event) for event in events] == fast
        assert [CODEC.decode(data) for data in fast] == events
        for value in (object(), "\ud800", {"a": {1, 2}}):
            with pytest.raises(InvalidEvent):
                dumps(value)

    def test_what_is_no_json_is_refused(self) -> None:
        """InvalidEvent, whatever the encoder's own error is."""
        endless: list[Any] = []
        endless.append(endless)
        for value in (object(), "\ud800", b"x", endless, {"a": object()}):
            with pytest.raises(InvalidEvent):
                CODEC.encode(make(CustomEvent, message={"type": "x", "value": value}))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MAPPINGS = st.none() | st.dictionaries(TEXT, JSON_VALUES, max_size=3)
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)


def built(kind: type[Event], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Event]:
    times = st.floats(0, 1e11) | st.integers(0, 10**10)
    headers = st.dictionaries(TEXT, TEXT, max_size=2)
    return st.builds(kind, project=TEXT, stage=TEXT, timestamp=times, headers=headers, **fields)


EVENTS = st.one_of(
    built(TokenEmitted, content=TEXT, offset=st.integers(0, 2**40), snapshot=st.booleans()),
    built(
        StageUpdated,
        status=TEXT,
        progress=st.none() | NUMBERS,
        message=st.none() | TEXT,
        retry_count=st.none() | st.integers(0, 99),
    ),
    built(
        ProgressReported,
        current=st.none() | NUMBERS,
        total=st.none() | NUMBERS,
        progress=st.none() | st.integers(0, 100),
        item_name=st.none() | TEXT,
    ),
    built(ItemCompleted, item_type=TEXT, sequence_number=st.integers(-(2**53), 2**53), metadata=MAPPINGS),
    built(StageCompleted, full_text=st.none() | TEXT, metadata=MAPPINGS),
    built(StageFailed, error=TEXT, retry_count=st.integers(0, 99), reason=st.sampled_from(FAILURE_REASONS)),
    built(StageRefreshed, metadata=MAPPINGS),
    built(PipelineCompleted, metadata=MAPPINGS),
    built(PipelineFailed, error=TEXT, metadata=MAPPINGS),
    built(RunOpened, run=TEXT, attempt=st.integers(0, 99), fresh=st.booleans()),
    built(CustomEvent, message=st.dictionaries(TEXT, JSON_VALUES, max_size=4)),
)


@given(EVENTS)
def test_events_are_read_back_as_they_were(event: Event) -> None:
    """Every event survives the wire, types and all."""
    data = CODEC.encode(event)
    again = CODEC.decode(data)
    assert again == event
    assert type(again) is type(event)
    assert CODEC.encode(again) == data
    assert b"\n" not in data
    assert data.count(b"\t") == 1
