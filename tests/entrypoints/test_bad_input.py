"""Bad input at the publisher's door: each gets its answer, and nothing published before or after is lost."""

import itertools
import logging
import math

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


def test_an_unreachable_redis_costs_the_task_nothing(project: str) -> None:
    """R151: With Redis down for the whole task its tokens are accepted, its end says False, and no call raises."""
    url = f"redis://127.0.0.1:{free_port()}"
    publisher = RedisStreamPublisher(project, "rewrite", bus=url, timeout=0.2)
    assert all(publisher.publish_token(f"{number} ") for number in range(100))
    assert publisher.publish_done(publisher.text) is False
    publisher.close()
    with pytest.raises(BusUnavailable):
        RedisStreamSubscriber(project, "rewrite", bus=url)
