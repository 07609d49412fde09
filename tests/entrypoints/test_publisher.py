"""RedisStreamPublisher: what its calls send, answer and wait for."""

import gc
import logging
import threading
import weakref
from typing import Any

import pytest

from stagecast import RedisStreamPublisher, RedisStreamSubscriber
from stagecast.adapters.codec import JsonCodec
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import (
    EventTooLarge,
    InvalidEvent,
    InvalidTopic,
    NotConfigured,
    PublishFailed,
)
from stagecast.domain.topics import Topic
from stagecast.entrypoints.publishers import _abandon
from tests.reading import rebuilt, told
from tests.servers import available_redis_kinds, free_port, start_redis
from tests.waiting import wait_until

STAGE = "rewrite"


def of(message: dict[str, Any] | None) -> dict[str, Any]:
    """The message without what differs from run to run."""
    assert message is not None
    return {key: value for key, value in message.items() if key not in {"timestamp", "id", "channel", "project_id"}}


def test_each_call_sends_the_message_of_the_seed(bus_url: str, project: str) -> None:
    """Every publish call sends the seed's fields, optional ones only where given."""
    with (
        RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher,
    ):
        assert publisher.publish_stage_update("processing", 0)
        assert publisher.publish_stage_update(status="processing", progress=50, message="正在生成文案...")
        assert publisher.publish_token("这是", "这是")
        assert publisher.publish_progress(3, 10, "分镜3")
        assert publisher.publish_progress(0, 0)
        assert publisher.publish_item_completed("image", 1, {"url": "/1.svg"})
        assert publisher.publish({"type": "cost", "usd": 0.5})
        assert publisher.publish_done(full_text="这是", metadata={"tokens_used": 1000})
        assert publisher.publish_stage_completed({"tokens_used": 1000})
        assert publisher.publish_pipeline_done()
        expected: list[dict[str, Any]] = [
            {"type": "stage_update", "stage": STAGE, "status": "processing", "progress": 0},
            {
                "type": "stage_update",
                "stage": STAGE,
                "status": "processing",
                "progress": 50,
                "message": "正在生成文案...",
            },
            {"type": "token", "stage": STAGE, "content": "这是", "full_text": "这是"},
            {"type": "progress", "stage": STAGE, "current": 3, "total": 10, "progress": 30, "item_name": "分镜3"},
            {"type": "progress", "stage": STAGE, "current": 0, "total": 0, "progress": 0},
            {
                "type": "item_completed",
                "stage": STAGE,
                "item_type": "image",
                "sequence_number": 1,
                "metadata": {"url": "/1.svg"},
            },
            {"type": "cost", "usd": 0.5},
            {"type": "done", "stage": STAGE, "full_text": "这是", "metadata": {"tokens_used": 1000}},
            {"type": "stage_completed", "stage": STAGE, "metadata": {"tokens_used": 1000}},
            {"type": "pipeline_done", "stage": STAGE},
        ]
        assert [of(subscriber.get_message(5)) for _ in expected] == expected


def test_errors_send_the_message_of_the_seed(bus_url: str, project: str) -> None:
    """The failures' messages: `reason` only where it is not the usual one."""
    with (
        RedisStreamSubscriber(project, bus=bus_url) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher,
        RedisStreamPublisher(project, "pipeline", bus=bus_url) as pipeline,
    ):
        assert publisher.publish_error("API调用失败: 超时", 1)
        assert publisher.publish_stage_update("processing")
        assert publisher.publish_error(ValueError("late"), retry_count=2, reason="timeout")
        assert pipeline.publish_pipeline_error(error="no", metadata={"stage": STAGE})
        messages = [of(message) for message in subscriber.listen(5) if message["type"].endswith("error")]  # type: ignore[union-attr]
    assert messages == [
        {"type": "error", "stage": STAGE, "error": "API调用失败: 超时", "retry_count": 1},
        {"type": "error", "stage": STAGE, "error": "late", "retry_count": 2, "reason": "timeout"},
        {"type": "pipeline_error", "stage": "pipeline", "error": "no", "metadata": {"stage": STAGE}},
    ]


def test_unreachable_bus_delays_nothing_and_loses_nothing(project: str) -> None:
    """R151: With a dead bus construction and tokens don't wait, ends answer False; when it is back all is delivered."""
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    publisher = RedisStreamPublisher(project, STAGE, bus=url, timeout=0.1)
    words = [f"{number} " for number in range(100)]
    for word in words:
        assert publisher.publish_token(word)
    assert publisher.publish_done(publisher.text) is False
    assert publisher.flush(0.1) is False
    assert publisher.close() is False
    with start_redis(available_redis_kinds()[0], port=port), RedisStreamSubscriber(project, STAGE, bus=url) as reader:
        messages = list(reader.listen(20))
        wait_until(publisher.close)
    assert rebuilt(messages) == "".join(words)
    assert messages[-1]["type"] == "done"


def test_outage_is_logged_once(project: str, caplog: pytest.LogCaptureFixture) -> None:
    """R151: An outage is one warning, not one for each event."""
    with caplog.at_level(logging.WARNING, "stagecast"):
        publisher = RedisStreamPublisher(project, STAGE, bus=f"redis://127.0.0.1:{free_port()}/0", timeout=0.3)
        for number in range(100):
            publisher.publish_token(f"{number} ")
        assert publisher.publish_done(publisher.text) is False
    publisher._delivery.done.cancel()  # nobody will ever serve this port
    ours = [record.message for record in caplog.records if project in record.message]
    assert len(ours) == 1
    assert "the bus is away, events wait" in ours[0]


def test_strict_publisher_raises(project: str) -> None:
    """With `strict` what would be False is a typed exception."""
    bus = MemoryBus(JsonCodec(), BusLimits(event_bytes=2048))
    publisher = RedisStreamPublisher(project, STAGE, bus=bus, strict=True)
    with pytest.raises(InvalidEvent, match="metadata"):
        publisher.publish_item_completed("image", 1, {"image": object()})  # type: ignore[dict-item]
    with pytest.raises(EventTooLarge):
        publisher.publish_error("x" * 4096)
    assert publisher.publish_token("a")
    assert publisher.publish_done("a")
    assert publisher.close()
    with pytest.raises(PublishFailed, match="closed"):
        publisher.publish_token("b")
    away = RedisStreamPublisher(project, STAGE, bus=f"redis://127.0.0.1:{free_port()}/0", strict=True, timeout=0.1)
    with pytest.raises(PublishFailed, match="within"):
        away.publish_done()
    with pytest.raises(PublishFailed):
        away.flush(0.1)
    assert away.close() is False
    away._delivery.done.cancel()


def test_refused_values_are_false(project: str) -> None:
    """A value that cannot be sent is refused, and costs nothing that was or will be published."""
    with (
        RedisStreamSubscriber(project, STAGE, bus="memory://") as subscriber,
        RedisStreamPublisher(project, STAGE, bus="memory://") as publisher,
    ):
        publisher.publish_token("a")
        assert publisher.publish_stage_update(7) is False  # type: ignore[arg-type]
        assert publisher.publish({"type": "odd", "value": object()}) is False  # type: ignore[dict-item]
        publisher.publish_token("b")
        publisher.publish_done("ab")
        messages = list(subscriber.listen(5))
    assert rebuilt(messages) == "ab"
    assert told(messages) == ["token", "done"]


def test_construction_checks_ids_and_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad ids and a missing bus are errors of the caller, raised at once and in words that help."""
    for project, stage in (("", STAGE), ("a b", STAGE), ("a", "b:c"), ("a", "*")):
        with pytest.raises(InvalidTopic):
            RedisStreamPublisher(project, stage, bus="memory://")
    for name in ("STAGECAST_BUS", "REDIS_URL", "REDIS_PUBSUB_URL", "CELERY_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NotConfigured, match="STAGECAST_BUS"):
        RedisStreamPublisher("a", STAGE)


def test_linger_is_each_publishers_own(bus_url: str, project: str) -> None:
    """0 gathers nothing; what would look like an outage is refused."""
    for given, expected in ((None, 0.025), (0, 0.0), (0.5, 0.5)):
        with RedisStreamPublisher(project, STAGE, bus=bus_url, linger=given) as publisher:
            assert publisher._stage._outbox.limits.linger == expected
    with pytest.raises(ValueError, match="linger"):
        RedisStreamPublisher(project, STAGE, bus=bus_url, linger=0.6)


def test_events_keep_the_order_of_the_calls(bus_url: str, project: str) -> None:
    """R61: 500 events of one producer are stored in call order, the terminal last."""
    with (
        RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher,
    ):
        for number in range(500):
            publisher.publish_item_completed("image", number)
        assert publisher.publish_done()
        messages = list(subscriber.listen(5))
    assert [message.get("sequence_number") for message in messages] == [*range(500), None]
    assert messages[-1]["type"] == "done"


def test_eight_threads_share_a_publisher(bus_url: str, project: str) -> None:
    """R91: One publisher serves eight threads; every event of each arrives, in its thread's order."""
    with (
        RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher,
    ):

        def work(number: int) -> None:
            for n in range(250):
                publisher.publish_item_completed(f"thread{number}", n)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert publisher.publish_done()
        messages = [message for message in subscriber.listen(5) if message["type"] == "item_completed"]
    assert len(messages) == 2000
    for number in range(8):
        own = [message["sequence_number"] for message in messages if message["item_type"] == f"thread{number}"]
        assert own == list(range(250))


def test_closing_gives_the_lease_back(project: str) -> None:
    """`close`, twice or by the block's end, delivers, gives the lease back, and refuses what comes later."""
    bus = MemoryBus(JsonCodec())
    with RedisStreamPublisher(project, STAGE, bus=bus) as publisher:
        publisher.publish_token("a")
        publisher.flush()
        assert bus.liveness(Topic(project)).active == {STAGE}
        assert publisher.close()
    assert publisher.close()
    assert bus.liveness(Topic(project)).active == frozenset()
    assert publisher.publish_token("b") is False
    assert publisher.text == "a"


def test_unclosed_publisher_is_closed_by_the_collector(project: str) -> None:
    """A publisher that nobody closed delivers and gives its lease back when it is collected."""
    bus = MemoryBus(JsonCodec())
    publisher = RedisStreamPublisher(project, STAGE, bus=bus)
    publisher.publish_token("a")
    publisher.flush()
    publisher.itself = publisher  # type: ignore[attr-defined]  # only the collector can free it
    del publisher
    assert bus.liveness(Topic(project)).active == {STAGE}
    gc.collect()
    wait_until(lambda: not bus.liveness(Topic(project)).active)


def test_closed_publisher_is_freed_at_once(project: str, without_collector: None) -> None:
    """Its text does not wait for the collector in a worker of many tasks."""
    publisher = RedisStreamPublisher(project, STAGE, bus=MemoryBus(JsonCodec()))
    publisher.publish_token("a")
    stage = weakref.ref(publisher._stage)
    publisher.close()
    del publisher
    wait_until(lambda: stage() is None)


def test_collector_may_strike_inside_the_outbox(project: str) -> None:
    """R93: Closing a collected publisher takes no lock that the interrupted thread may hold."""
    publisher = RedisStreamPublisher(project, STAGE, bus=MemoryBus(JsonCodec()))
    with publisher._stage._outbox._lock:
        _abandon(publisher._background, publisher._delivery)
    wait_until(publisher._delivery.done.done)
