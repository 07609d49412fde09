"""Bad input at the publisher's door: each gets its answer, and nothing published before or after is lost."""

import itertools
import logging
import math
from typing import Any

import pytest

from stagecast import RedisStreamPublisher, RedisStreamSubscriber
from stagecast.domain.errors import BusUnavailable, EventTooLarge, InvalidEvent, InvalidTopic
from stagecast.domain.events import JSON
from tests.servers import free_port

HOSTILE = [
    "",
    " ",
    "a b",
    "a:b",
    "a/b",
    "*",
    "?",
    "[a]",
    "{a}",
    "a\\b",
    "a\nb",
    "a\0b",
    "\ud800",
    "x" * 129,
    "..",
    "\u200b",
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_hostile_ids_are_refused_by_name(hostile: str, bus_url: str) -> None:
    """R67: An empty, overlong or hostile id reaches no bus: InvalidTopic says which id it is."""
    with pytest.raises(InvalidTopic, match="project id"):
        RedisStreamPublisher(hostile, "rewrite", bus=bus_url)
    with pytest.raises(InvalidTopic, match="stage name"):
        RedisStreamPublisher("123", hostile, bus=bus_url)
    with pytest.raises(InvalidTopic, match="project id"):
        RedisStreamSubscriber(hostile, bus=bus_url)


def test_bad_values_lose_nothing_of_what_is_around_them(
    bus_url: str, project: str, caplog: pytest.LogCaptureFixture
) -> None:
    """R74: Refused and mended values among good tokens: the text is whole, good fields arrive, faults are told."""
    caplog.set_level(logging.WARNING, "stagecast")
    with (
        RedisStreamSubscriber(project, "rewrite", bus=bus_url) as subscriber,
        RedisStreamPublisher(project, "rewrite", bus=bus_url) as publisher,
    ):
        assert publisher.publish_token("one ")
        assert publisher.publish_token("x" * (2 << 20)) is False
        assert publisher.publish({"type": "note", "text": "x" * (2 << 20)}) is False
        assert publisher.publish_item_completed("image", 1, {"object": object()}) is False  # type: ignore[dict-item]
        assert publisher.publish_item_completed("image", 2, {"score": math.nan, "good": 50, "limit": -math.inf})
        assert publisher.publish_stage_update("lone \ud83d")
        assert publisher.publish_token("two \ud83d")
        assert publisher.publish_token("\ude00 three \udc00")
        assert publisher.publish_done("one two 😀 three \ufffd", {"rate": math.inf})
        messages = list(subscriber.listen(timeout=5))
    kinds = [key for key, _ in itertools.groupby(message["type"] for message in messages)]
    assert kinds == ["token", "item_completed", "stage_update", "token", "done"]
    text = "".join(str(message["content"]) for message in messages if message["type"] == "token")
    assert text == "one two 😀 three \ufffd"
    by_type: dict[JSON, dict[str, JSON]] = {message["type"]: message for message in messages}
    assert by_type["item_completed"]["metadata"] == {"score": None, "good": 50, "limit": None}
    assert by_type["stage_update"]["status"] == "lone \ufffd"
    assert by_type["done"]["metadata"] == {"rate": None}
    told = caplog.text
    for sign in ("the limit is", "metadata.object", "metadata.score", "U+FFFD"):
        assert sign in told


def test_a_strict_publisher_raises_what_another_refuses(bus_url: str, project: str) -> None:
    """With `strict` each refusal is an exception of its own type, and the text before and after is whole."""
    with RedisStreamPublisher(project, "rewrite", bus=bus_url, strict=True) as publisher:
        publisher.publish_token("a")
        with pytest.raises(EventTooLarge):
            publisher.publish_token("x" * (2 << 20))
        with pytest.raises(InvalidEvent, match=r"metadata\.object"):
            publisher.publish_done(metadata={"object": object()})  # type: ignore[dict-item]
        publisher.publish_token("b")
        assert publisher.publish_done("ab")
        with RedisStreamSubscriber(project, "rewrite", bus=bus_url) as late:
            messages = list(late.listen(timeout=5))
    assert [message["full_text"] for message in messages if message["type"] == "token"] == ["ab"]


LARGE: dict[str, Any] = {"shared": ["x" * 1000] * 2000, "keys": {str(key): key for key in range(200_000)}}
for _ in range(60):
    LARGE["shared"] = [LARGE["shared"], LARGE["shared"]]


@pytest.mark.parametrize("kind", LARGE)
def test_metadata_of_any_shape_that_is_too_large_is_refused_at_once(bus_url: str, project: str, kind: str) -> None:
    """R74: Past the limit nothing more of a value is read, though it has 2**60 parts; what is around it arrives."""
    with (
        RedisStreamSubscriber(project, "rewrite", bus=bus_url) as subscriber,
        RedisStreamPublisher(project, "rewrite", bus=bus_url) as publisher,
    ):
        publisher.publish_token("a")
        assert publisher.publish_item_completed("image", 1, LARGE[kind]) is False
        assert publisher.publish({"type": "note", "what": LARGE[kind]}) is False
        with RedisStreamPublisher(project, "rewrite", bus=bus_url, strict=True) as strict:
            with pytest.raises(EventTooLarge, match=r"metadata.* is past the limit of 1048576 bytes|of \d+ bytes"):
                strict.publish_stage_completed({"what": LARGE[kind]})
        assert publisher.publish_item_completed("image", 2, {"keys": {str(key): key for key in range(1000)}})
        assert publisher.publish({"type": "token", "content": "b", "full_text": "ab"})
        assert publisher.publish_done("ab")
        messages: list[dict[str, Any]] = list(subscriber.listen(timeout=5))
    assert [message.get("content") or message["type"] for message in messages] == ["a", "item_completed", "b", "done"]


def test_a_token_with_headers_is_measured_with_them(bus_url: str, project: str) -> None:
    """R74: A token that would be too large with its headers is refused where it is handed over, not lost later."""
    headers = {"baggage": "x" * 8000}
    with (
        RedisStreamSubscriber(project, "rewrite", bus=bus_url) as subscriber,
        RedisStreamPublisher(project, "rewrite", bus=bus_url, headers=headers) as publisher,
    ):
        assert publisher.publish_token("a")
        assert publisher.publish_token("x" * ((1 << 20) - 5000)) is False
        assert publisher.publish_token("b" * ((1 << 20) - 10_000))
        assert publisher.publish_done(publisher.text)
        text = "".join(str(one["content"]) for one in subscriber.listen(timeout=5) if one["type"] == "token")
    assert text == "a" + "b" * ((1 << 20) - 10_000)


def test_a_raw_token_may_name_a_text_of_any_length(bus_url: str, project: str) -> None:
    """The `full_text` of a token is no part of its event: past the limit of one it says where the token belongs."""
    long = "x" * 700_000
    with RedisStreamPublisher(project, "rewrite", bus=bus_url, strict=True) as publisher:
        publisher.publish_token(long)
        publisher.publish_token(long)
        assert publisher.publish({"type": "token", "content": "y", "full_text": f"{long}{long}y"})
        assert publisher.publish_done(f"{long}{long}y")
        with pytest.raises(EventTooLarge):
            publisher.publish({"type": "note", "full_text": f"{long}{long}"})
        assert publisher.text == f"{long}{long}y"


def test_an_unreachable_redis_costs_the_task_nothing(project: str) -> None:
    """R151: With Redis down for the whole task its tokens are accepted, its end says False, and no call raises."""
    url = f"redis://127.0.0.1:{free_port()}"
    publisher = RedisStreamPublisher(project, "rewrite", bus=url, timeout=0.2)
    assert all(publisher.publish_token(f"{number} ") for number in range(100))
    assert publisher.publish_done(publisher.text) is False
    publisher.close()
    with pytest.raises(BusUnavailable):
        RedisStreamSubscriber(project, "rewrite", bus=url)
