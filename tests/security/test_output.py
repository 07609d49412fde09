"""What goes out to viewers: no value forges a line of an event stream, or of a terminal."""

import io
import json
import re
from contextlib import redirect_stdout
from typing import Any

import pytest
from attrs import evolve, fields
from hypothesis import given
from hypothesis import strategies as st

from stagecast.adapters.codec import JsonCodec
from stagecast.domain.events import (
    CustomEvent,
    Event,
    ItemCompleted,
    PipelineCompleted,
    PipelineFailed,
    ProgressReported,
    StageCompleted,
    StageFailed,
    StageRefreshed,
    StageUpdated,
    TokenEmitted,
)
from stagecast.domain.following import Reset, Shown
from stagecast.domain.positions import Position
from stagecast.domain.text import is_sound
from stagecast.entrypoints.commands.tail import JsonLines, PlainLines
from stagecast.entrypoints.messages import message
from stagecast.entrypoints.sse import framing
from tests.security.texts import bounded, hostile_texts
from tests.sse.eventstream import parsed

AT = Position(7, 3)
CODEC = JsonCodec()
COMMON: dict[str, Any] = {"project": "p", "stage": "s", "timestamp": 1.0}
EVENTS: list[Event | Reset] = [
    TokenEmitted(**COMMON, content="", offset=0),
    StageUpdated(**COMMON, status="", message="", progress=1.0, retry_count=1),
    ProgressReported(**COMMON, current=1, total=2, progress=50, item_name=""),
    ItemCompleted(**COMMON, item_type="", sequence_number=1, metadata={"key": ""}),
    StageCompleted(**COMMON, full_text="", metadata={"key": ""}),
    StageFailed(**COMMON, error="", reason="exception"),
    StageRefreshed(**COMMON, metadata={"key": ""}),
    PipelineCompleted(**COMMON, metadata={"key": ""}),
    PipelineFailed(**COMMON, error="", metadata={"key": ""}),
    CustomEvent(**COMMON, message={"type": "note", "key": ""}),
    Reset(project="p", stage="s", cause="run", run="r", attempt=1),
]


def texts_of(event: Event | Reset) -> list[str]:
    """The event's fields that hold text, or an object with texts."""
    return [
        str(one.name)
        for one in fields(type(event))
        if one.name not in {"headers", "extra"} and isinstance(getattr(event, one.name), str | dict)
    ]


PLACES = [(event, name) for event in EVENTS for name in texts_of(event)]


@pytest.mark.parametrize(("event", "name"), PLACES, ids=lambda one: one if isinstance(one, str) else type(one).__name__)
@bounded
@given(text=hostile_texts)
def test_no_field_of_an_event_forges_a_line(event: Event | Reset, name: str, text: str) -> None:
    """R67: whatever a field holds, a browser sees one unnamed event with exactly that value, its own id, no retry."""
    value: Any = text
    if isinstance(getattr(event, name), dict):
        value = {"type": text, text: text, "inner": [text, {text: text}]}
    hostile = evolve(event, **{name: value})
    carried = hostile if isinstance(hostile, Reset) else CODEC.decode(CODEC.encode(hostile))
    assert carried == hostile
    for full_text in (True, False):
        shown = message(Shown(carried, AT, f"whole {text}"), full_text=full_text)
        stream = parsed(framing.event(shown, AT) + framing.event({"type": "next"}))
        assert [one.message for one in stream.events] == [shown, {"type": "next"}]
        assert [(one.type, one.own_id) for one in stream.events] == [("message", "7-3"), ("message", None)]
        assert ([len(block) for block in stream.blocks], stream.retry, stream.comments) == ([2, 1], None, [])


@bounded
@given(text=st.text(st.characters(categories=["Cs", "Cc", "Ll"]), max_size=8))
def test_a_foreign_peers_surrogates_forge_no_line(text: str) -> None:
    """Text that UTF-8 cannot carry, as a foreign writer of Redis may send it, arrives escaped in one event."""
    stream = parsed(framing.event({"content": text, text: "x"}, AT))
    assert [one.message for one in stream.events] == [{"content": text, text: "x"}]
    assert [len(block) for block in stream.blocks] == [2]


# What a terminal, or a log, is given of a stream.


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
@bounded
@given(text=hostile_texts.filter(is_sound))
def test_a_stream_forges_no_line_of_a_terminal(event: Event | Reset, text: str) -> None:
    """`stagecast tail`: each line of text or of news begins with its stage, and no control character gets through."""
    value: dict[str, Any] = {
        name: {"type": text, text: text} if name in {"metadata", "message"} else text for name in texts_of(event)
    }
    if isinstance(event, CustomEvent):
        value["message"] = {"type": text, "stage": text, "message": text}
    elif not isinstance(event, Reset) and isinstance(getattr(event, "message", None), str):
        value["message"] = text
    shown = message(Shown(evolve(event, **value), AT, text))
    for view in (PlainLines(), JsonLines()):
        said = io.StringIO()
        with redirect_stdout(said):
            view.show(shown)
            view.end()
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", said.getvalue())
        lines = said.getvalue().split("\n")[:-1]
        if isinstance(view, JsonLines):
            assert [json.loads(line) for line in lines] == [shown]
        else:
            expected = text.count("\n") + bool(text.rpartition("\n")[2]) if shown["type"] == "token" else 1
            assert len(lines) == expected
            assert all(": " in line for line in lines)
