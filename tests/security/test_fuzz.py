"""Parsers and encoders under arbitrary input: each fails as its documentation says or not at all."""

import json
import math
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from attrs import evolve, fields
from hypothesis import example, given
from hypothesis import strategies as st

from stagecast.adapters import codec as codec_module
from stagecast.adapters.codec import JsonCodec, loads
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits, Published, Snapshot
from stagecast.domain.errors import InvalidEvent, InvalidPosition, InvalidTopic
from stagecast.domain.events import JSON, Event
from stagecast.domain.following import Shown
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic, identifier
from stagecast.entrypoints.messages import message
from stagecast.entrypoints.sse import EdgeSettings, create_app, framing
from stagecast.entrypoints.sse.fold import ProjectFold
from tests.security.asgi import get
from tests.security.test_output import EVENTS
from tests.security.texts import bounded, hostile_texts
from tests.sse.eventstream import EventStreamParser, parsed

CODEC = JsonCodec()
texts = st.one_of(hostile_texts, st.text(st.characters(), max_size=8))
finite = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([2**63, -(2**70)]))
numbers = st.one_of(finite, st.sampled_from([math.inf, -math.inf, math.nan]))


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """JSON made of `leaves`."""
    return st.recursive(
        st.one_of(st.none(), st.booleans(), texts, leaves),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
        max_leaves=8,
    )


TYPES = [str(event.type) for event in EVENTS if isinstance(event, Event) and event.type]
NAMES = sorted({str(one.name) for event in EVENTS for one in fields(type(event))} | {"type", "project_id", "id"})
keys = st.one_of(st.sampled_from(NAMES), texts)
objects = st.dictionaries(keys, nested(numbers), max_size=5)
typed_objects = st.builds(lambda known, more: {**more, "type": known}, st.sampled_from([*TYPES, "run_opened"]), objects)


def line_of(header: Any, body: Any) -> bytes:
    """A line of a log as a foreign writer might make it: Python's JSON has NaN, escapes and any nesting."""
    return json.dumps(header).encode() + b"\t" + json.dumps(body).encode()


def deep(levels: int) -> bytes:
    return b'{"v":1}\t{"type":"note","deep":' + b"[" * levels + b"]" * levels + b"}"


lines = st.one_of(
    st.binary(max_size=40),
    st.builds(line_of, objects, st.one_of(objects, typed_objects, nested(numbers))),
    st.builds(
        lambda line, at, junk: line[:at] + junk + line[at:],
        st.builds(line_of, objects, typed_objects),
        st.integers(0, 60),
        st.binary(min_size=1, max_size=3),
    ),
)


@pytest.fixture(scope="class", params=["orjson", "json"])
def codec(request: pytest.FixtureRequest) -> Iterator[JsonCodec]:
    """With the fast JSON of the extras, and with Python's own. The same for all examples of a test."""
    assert codec_module.orjson is not None
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "json":
            patch.setattr(codec_module, "orjson", None)
        yield CODEC


def as_a_browser(text: str) -> Any:
    """JSON as browsers read it, who know no NaN."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@bounded
@given(line=lines)
@example(line=deep(200))
@example(line=deep(300))
@example(line=deep(1010))
@example(line=deep(100_000))
@example(line=b'{"v":1}\t{"type":"note","number":1e999}')
@example(line=b'{"v":1}\t{"type":"note","number":NaN}')
@example(line=b'{"v":1}\t{"type":"note","text":"\\ud800"}')
@example(line=b'{"v":1}\t{"type":"note","number":' + b"9" * 5000 + b"}")
def test_any_line_of_a_log_is_an_event_that_viewers_can_be_sent(line: bytes, codec: JsonCodec) -> None:
    """What no version wrote is decoded as something, and a browser gets one sound message of it."""
    event = codec.decode(line)
    assert isinstance(event, Event)
    stream = parsed(framing.event(message(Shown(event, Position(1, 2), "text")), Position(1, 2)))
    (one,) = stream.events
    assert isinstance(as_a_browser(one.data), dict)
    assert ([len(block) for block in stream.blocks], stream.retry, one.own_id) == ([2], None, "1-2")


LONE = b'{"v":1,"offset":0}\t{"type":"token","content":"\\ud800","stage":"s","project_id":"p","timestamp":1}'
tokens = st.builds(
    lambda offset, content, stage: (
        json.dumps({"v": 1, "offset": offset}).encode()
        + b"\t"
        + json.dumps({"type": "token", "content": content, "stage": stage, "project_id": "p", "timestamp": 1}).encode()
    ),
    st.one_of(st.integers(-2, 9), st.just(2**70)),
    texts,
    st.sampled_from(["s", "s", "t"]),
)


@bounded
@given(log=st.lists(st.one_of(lines, tokens, tokens), max_size=8), stage=st.sampled_from([None, "s"]))
@example(log=[LONE] * 2, stage="s")
def test_any_log_can_be_followed(log: list[bytes], stage: str | None, codec: JsonCodec) -> None:
    """What a foreign writer puts into a log is folded, or known as a hole; viewers of any kind get sound messages."""
    fold = ProjectFold("p")
    fold.restart(Snapshot(position=Position(1, 0), stages={}, time=0.0), 0.0)
    topic = Topic("p", stage)
    for whole in (True, False):
        assert parsed(fold.portion(0, topic, whole=whole).data).events == []
    hole = ""
    for number, line in enumerate(log, start=1):
        try:
            fold.apply(Published(position=Position(1, number), event=codec.decode(line)), 0.0, whole=True)
        except ValueError as error:  # then the project is read anew, from Redis's own state of it
            hole = str(error)
            break
        fold.release(0.0)
    assert not hole or "not continuous" in hole
    for whole in (True, False):
        for data in (
            fold.portion(0, topic, whole=whole).data,
            fold.again([], 0, topic, whole=whole).data,
            fold.replay(topic, whole=whole),
        ):
            stream = parsed(data)
            assert stream.retry is None
            for one in stream.events:
                assert isinstance(as_a_browser(one.data), dict)


@bounded
@given(data=st.one_of(st.binary(max_size=30), st.text(max_size=30)))
@example(data="[" * 100_000)
@example(data="-Infinity")
def test_json_is_read_or_refused(data: bytes | str, codec: JsonCodec) -> None:
    """Nothing but ValueError, as `loads` says; what is read is finite."""
    try:
        value = loads(data)
    except ValueError:
        return
    assert as_a_browser(json.dumps(value)) == value or value != value


@bounded
@given(event=st.sampled_from([one for one in EVENTS if isinstance(one, Event)]), data=st.data())
def test_what_is_encoded_is_decoded(event: Event, data: st.DataObject, codec: JsonCodec) -> None:
    """Each event is itself again after a journey, or is refused as InvalidEvent before it."""
    changes: dict[str, Any] = {}
    for one in fields(type(event)):
        value = getattr(event, one.name)
        if isinstance(value, str) and one.name != "reason":
            changes[one.name] = data.draw(texts)
        elif isinstance(value, dict) and one.name not in {"headers", "extra"}:
            changes[one.name] = {**value, **data.draw(st.dictionaries(keys, nested(finite), max_size=4))}
    changes["headers"] = data.draw(st.dictionaries(texts, texts, max_size=2))
    changed = evolve(event, **changes)
    try:
        line = codec.encode(changed)
    except InvalidEvent:
        return
    assert b"\n" not in line
    assert line.count(b"\t") == 1
    again = codec.decode(line)
    assert again == changed


@bounded
@given(body=st.one_of(objects, typed_objects))
def test_a_callers_own_message_is_an_event_of_the_callers_topic(body: dict[str, JSON], codec: JsonCodec) -> None:
    """`publish(dict)` takes any object: whatever it says, its event belongs to the publisher's project and stage."""
    event = codec.parse(Topic("p", "s"), body, 1.0)
    assert (event.project, event.stage) == ("p", "s")


@bounded
@given(text=st.one_of(st.text(max_size=50), st.from_regex(r"[0-9]{1,25}-[0-9]{1,25}"), st.from_regex(r"[0٠-٩]+-[0-9]")))
@example(text=f"{2**63}-0")
@example(text=f"0-{2**63}")
@example(text="1-1\n")
def test_a_position_is_itself_or_is_refused(text: str) -> None:
    """The Last-Event-ID parser takes what `str()` writes and nothing else, and raises nothing but InvalidPosition."""
    try:
        position = Position.parse(text)
    except InvalidPosition:
        return
    assert str(position) == text
    assert 0 <= min(position) <= max(position) < 2**63


@bounded
@given(header=st.binary(max_size=40), query=st.text(st.characters(codec="ascii"), max_size=20))
@example(header=b"9" * 5000 + b"-1", query="delta=1&delta=2&replay=latest&run=&last_event_id=%00")
@example(header="1-２".encode(), query="run=%ff")
async def test_whatever_a_browser_says_it_has_seen(header: bytes, query: str) -> None:
    """Any Last-Event-ID and any query get a stream from its beginning, or a refusal; never a fault of the server."""
    app = create_app(MemoryBus(CODEC, BusLimits()), settings=EdgeSettings())
    try:
        path = "/api/v1/sse/projects/p/stages/s/"
        answer = await get(app, path, [(b"last-event-id", header)], quote(query, safe="=&%").encode())
        assert answer.status in {200, 400, 404}
        if answer.status == 200:
            assert parsed(answer.body).events[0].message["type"] in {"connected", "reset"}
    finally:
        await app.state.edge.aclose()


@bounded
@given(value=st.one_of(texts, st.integers(), st.uuids(), st.floats(), st.binary(), st.none(), st.lists(texts)))
def test_a_topic_is_what_it_was_named_or_is_refused(value: Any) -> None:
    """The topic parser raises nothing but InvalidTopic, and changes nothing."""
    try:
        topic = Topic.of(value, value)
    except InvalidTopic:
        return
    assert topic == Topic(str(value), str(value))
    assert identifier(topic.project) == topic.project


@bounded
@given(bodies=st.lists(objects, max_size=4), cuts=st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_frames_arrive_whole_in_any_portions(bodies: list[dict[str, Any]], cuts: list[int], codec: JsonCodec) -> None:
    """A browser dispatches exactly the messages, in order, however the bytes are cut on their way."""
    data = b"".join(framing.event(body, Position(1, number)) for number, body in enumerate(bodies))
    data += framing.HEARTBEAT + framing.id_only(Position(2, 0)) + framing.retry(7)
    parser = EventStreamParser()
    sizes = iter(cuts * (len(data) + 1))
    while data:
        size = next(sizes)
        parser.feed(data[:size])
        data = data[size:]
    assert [one.own_id for one in parser.events] == [f"1-{number}" for number in range(len(bodies))]
    for one in parser.events:
        as_a_browser(one.data)
    assert (parser.last_event_id, parser.retry, parser.comments) == ("2-0", 7, ["heartbeat"])


@bounded
@given(text=st.text(max_size=10))
def test_a_comment_is_one_line_or_is_refused(text: str) -> None:
    """Nothing but ValueError, and never a second line."""
    try:
        made = framing.comment(text)
    except ValueError:
        return
    assert [len(block) for block in parsed(made + framing.event({})).blocks] == [1, 1]
