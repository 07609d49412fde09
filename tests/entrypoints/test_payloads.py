"""What callers put into events, from their own types to the reader: numbers stay numbers, or the field is named."""

import json
import logging
import math
import subprocess
import sys
import textwrap
from decimal import Decimal
from typing import Any

import numpy
import pytest

from stagecast import RedisStreamPublisher, RedisStreamSubscriber
from stagecast.domain.errors import InvalidEvent

STAGE = "rewrite"
BEYOND_A_DOUBLE = 9007199254740993
"""2**53 + 1: the first whole number that JavaScript's `number` cannot hold."""


class Mischievous:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def read(bus_url: str, project: str) -> list[dict[str, Any]]:
    """The run so far, as a viewer who comes now is told it."""
    with RedisStreamSubscriber(project, STAGE, bus=bus_url) as late:
        return list(late.listen(timeout=5))


def test_one_bad_number_costs_its_own_field(bus_url: str, project: str, caplog: pytest.LogCaptureFixture) -> None:
    """R77: Among 50 fields one that is not finite becomes null, is told once by its name, and the stream goes on."""
    fields: dict[str, Any] = {f"field{number}": number / 7 for number in range(50)}
    fields["field13"] = math.nan
    caplog.set_level(logging.WARNING, "stagecast")
    with RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher:
        assert publisher.publish_token("before ")
        assert publisher.publish_item_completed("image", 1, fields)
        assert publisher.publish_token("after")
        assert publisher.publish_done(publisher.text)
    messages = {message["type"]: message for message in read(bus_url, project)}
    assert messages["item_completed"]["metadata"] == {**fields, "field13": None}
    assert messages["done"]["full_text"] == "before after"
    assert caplog.messages == ["metadata.field13 is not a finite number; null is sent instead"]


def test_objects_without_a_text_surface_at_the_publisher(
    bus_url: str, project: str, caplog: pytest.LogCaptureFixture
) -> None:
    """R79: An object whose `str` and `repr` raise is refused where it is handed over; readers see what is around it."""
    bad: Any = Mischievous()
    with (
        RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher,
    ):
        assert publisher.publish_token("a")
        assert publisher.publish_item_completed("image", 1, {"what": bad}) is False
        assert publisher.publish_item_completed("image", 1, {bad: "what"}) is False
        assert publisher.publish_token(bad) is False
        assert publisher.publish_stage_update(bad) is False
        assert publisher.publish({"type": "note", "what": [bad]}) is False
        assert publisher.publish_token("b")
        assert publisher.publish_error(bad)
        messages: list[dict[str, Any]] = list(subscriber.listen(timeout=5))
    assert "".join(message["content"] for message in messages if message["type"] == "token") == "ab"
    assert messages[-1]["error"] == "Mischievous"
    assert "metadata.what is of type Mischievous" in caplog.text


def test_keys_that_have_no_text_are_refused_by_field(bus_url: str, project: str) -> None:
    """What a value's own code raises becomes InvalidEvent, which names the field."""
    with RedisStreamPublisher(project, STAGE, bus=bus_url, strict=True) as publisher:
        with pytest.raises(InvalidEvent, match="metadata cannot be read: its own code raised RuntimeError"):
            publisher.publish_done(metadata={Mischievous(): 1})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("current", "total", "percent"),
    [
        (Decimal("1"), Decimal("3"), 33),
        (5, 0, 0),
        (Decimal("5"), Decimal("0"), 0),
        (7, 3, 100),
        (-1, 3, 0),
        (1, -3, 0),
        (None, 3, 0),
        (3, None, 0),
        (numpy.int64(1), numpy.float32(3), 33),
    ],
)
def test_progress_is_a_finite_percentage(current: Any, total: Any, percent: int, bus_url: str, project: str) -> None:
    """R80: Whatever is counted, in whatever numbers, `progress` is a whole number of 0 to 100, and nothing raises."""
    with RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber:
        with RedisStreamPublisher(project, STAGE, bus=bus_url, strict=True) as publisher:
            assert publisher.publish_progress(current, total)
        message = subscriber.get_message(5)
    assert message is not None
    assert message["progress"] == percent
    assert type(message["progress"]) is int
    for name, given in {"current": current, "total": total}.items():
        assert message[name] == (None if given is None else pytest.approx(float(given)))


def test_numpys_numbers_are_numbers(bus_url: str, project: str) -> None:
    """R81: numpy's scalars and arrays arrive as numbers and lists, in metadata, raw messages and a field of ours."""
    given: Any = {"score": numpy.float32(0.5), "n": numpy.int64(3), "v": numpy.array([1, 2]), "ok": numpy.bool_(True)}
    plain = {"score": 0.5, "n": 3, "v": [1, 2], "ok": True}
    with (
        RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=bus_url, strict=True) as publisher,
    ):
        publisher.publish_stage_update("processing", numpy.float32(12.5))  # type: ignore[arg-type]
        publisher.publish({"type": "note", **given})
        publisher.publish_item_completed("image", numpy.int64(1), given)  # type: ignore[arg-type]
        with pytest.raises(InvalidEvent, match=r"metadata\.z is of type complex128"):
            publisher.publish_done(metadata={"z": numpy.complex128(1)})  # type: ignore[dict-item]
        publisher.publish_done()
        update, note, item, done = list(subscriber.listen(timeout=5))
    assert update["progress"] == 12.5
    assert {name: note[name] for name in plain} == plain
    assert (item["sequence_number"], item["metadata"]) == (1, plain)
    assert done["type"] == "done"
    json.dumps([update, note, item], allow_nan=False)


def test_numpy_is_not_needed() -> None:
    """R81: Where numpy cannot be imported plain numbers work as ever, and nothing has tried to import it."""
    script = """
        import sys
        class Without:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "numpy":
                    raise SystemExit("numpy was asked for")
        sys.meta_path.insert(0, Without())
        from stagecast import RedisStreamPublisher, RedisStreamSubscriber
        from stagecast.domain.errors import InvalidEvent
        with RedisStreamPublisher("p", "s", bus="memory://", strict=True) as publisher:
            publisher.publish_progress(1, 3)
            try:
                publisher.publish_done(metadata={"v": b"1"})
            except InvalidEvent as error:
                print(error)
            publisher.publish_done(metadata={"score": 0.5, "v": [1, 2]})
        with RedisStreamSubscriber("p", "s", bus="memory://") as subscriber:
            print([message["metadata"] for message in subscriber.listen(5) if message["type"] == "done"])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == [
        "metadata.v is of type bytes, which has no JSON form",
        "[{'score': 0.5, 'v': [1, 2]}]",
    ], done.stderr


def test_ids_are_text_and_big_numbers_are_exact(bus_url: str, project: str) -> None:
    """R82: What stagecast adds (`id`, `run`) is text; a caller's number is sent as it is, beyond 64 bits as text."""
    numbers: dict[str, Any] = {"seq": BEYOND_A_DOUBLE, "job_no": -BEYOND_A_DOUBLE, "huge": 2**64, "as_text": "2" * 30}
    with (
        RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher,
    ):
        publisher.publish_item_completed("image", BEYOND_A_DOUBLE, numbers)
        publisher.publish_done()
        publisher.publish_token("another run")
        messages: list[dict[str, Any]] = [
            *subscriber.listen(timeout=5),
            *(subscriber.get_message(5) or {} for _ in "12"),
        ]
    item, _, reset, token = messages
    assert (item["sequence_number"], item["metadata"]) == (BEYOND_A_DOUBLE, {**numbers, "huge": str(2**64)})
    assert (reset["type"], type(reset["run"])) == ("reset", str)
    assert all(isinstance(message["id"], str) for message in messages)
    assert token["content"] == "another run"
