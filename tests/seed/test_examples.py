"""The seed's Python examples do what its document says of them, on a real server."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import pytest
import redis

from stagecast import RedisStreamPublisher, RedisStreamSubscriber
from stagecast.adapters.redis.bus import RedisBus
from stagecast.adapters.redis.link import connect_to
from stagecast.adapters.redis.settings import SeedChannels
from stagecast.domain.bus import BusLimits
from stagecast.entrypoints.background import background
from stagecast.entrypoints.wiring import CODEC
from tests.seed import app
from tests.seed import examples as untyped
from tests.servers import RedisServer
from tests.waiting import wait_until

examples: Any = untyped
PROJECT, STAGE = "123", "rewrite"
CHANNEL = "ai_story:project:123:stage:rewrite"


@contextmanager
def beside(example: Callable[..., object], *arguments: object) -> Iterator[None]:
    """Run `example` beside the block; it has ended at the block's end."""
    thread = threading.Thread(target=example, args=arguments, daemon=True)
    thread.start()
    yield
    thread.join(10)
    assert not thread.is_alive(), "the example did not end"


@pytest.mark.usefixtures("configured")
def test_the_task_streams_from_processing_to_done() -> None:
    """try/finally in a task: the update, each token with the text so far, done with metadata."""
    with RedisStreamSubscriber(PROJECT, STAGE) as subscriber:
        app.execute_llm_stage(PROJECT, STAGE, {})
        messages: list[dict[str, Any]] = list(subscriber.listen(timeout=10))
    update, *tokens, done = messages
    assert (update["type"], update["status"], update["progress"]) == ("stage_update", "processing", 0)
    assert [token["content"] for token in tokens] == list(app.ScriptedModel.tokens)
    text = "".join(app.ScriptedModel.tokens)
    assert tokens[-1]["full_text"] == text
    assert done["full_text"] == text
    assert done["metadata"] == {"tokens_used": 1000, "latency_ms": 2500}
    assert {message["channel"] for message in messages} == {CHANNEL}


@pytest.mark.usefixtures("configured")
def test_the_task_that_fails_publishes_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The except branch: the viewers see what was generated, then the error."""
    monkeypatch.setattr(app.llm_client, "failure", TimeoutError("API调用失败: 超时"))
    with RedisStreamSubscriber(PROJECT, STAGE) as subscriber:
        app.execute_llm_stage(PROJECT, STAGE, {})
        messages: list[dict[str, Any]] = list(subscriber.listen(timeout=10))
    assert messages[-2]["full_text"] == "".join(app.ScriptedModel.tokens)
    error = messages[-1]
    assert (error["type"], error["error"], error["retry_count"]) == ("error", "API调用失败: 超时", 0)


@pytest.mark.usefixtures("configured")
def test_the_publisher_as_context_manager() -> None:
    """A token, then done with a text of its own: the text of done is the one that counts."""
    with RedisStreamSubscriber(PROJECT, STAGE) as subscriber:
        examples.publisher_as_context_manager(PROJECT, STAGE)
        token, done = list(subscriber.listen(timeout=10))
    assert (token["type"], token["content"], token["full_text"]) == ("token", "Hello", "Hello")
    assert (done["type"], done["full_text"]) == ("done", "Hello World")


@pytest.mark.usefixtures("configured")
def test_the_subscriber_of_one_stage(said: list[str]) -> None:
    """It prints each message as it comes, and ends with done."""
    with RedisStreamPublisher(PROJECT, STAGE) as publisher, beside(examples.subscriber_of_one_stage):
        publisher.publish_stage_update("processing", 0)
        wait_until(lambda: said)
        publisher.publish_token("Hello")
        wait_until(lambda: "Token: Hello" in said)
        publisher.publish_done("Hello")
    assert said == [
        "收到消息: stage_update",
        "收到消息: token",
        "Token: Hello",
        "收到消息: done",
        "完成: Hello",
    ]


@pytest.mark.usefixtures("configured")
def test_the_subscriber_of_one_stage_ends_with_an_error(said: list[str]) -> None:
    """It prints the error, and ends."""
    with RedisStreamPublisher(PROJECT, STAGE) as publisher, beside(examples.subscriber_of_one_stage):
        publisher.publish_stage_update("processing", 0)
        wait_until(lambda: said)
        publisher.publish_error("API调用失败: 超时", retry_count=1)
    assert said[1:] == ["收到消息: error", "错误: API调用失败: 超时"]


@pytest.mark.usefixtures("configured")
def test_the_subscriber_of_all_stages(said: list[str]) -> None:
    """It prints the messages of every stage, goes on after a stage's end, and ends with the pipeline's."""
    with (
        RedisStreamPublisher(PROJECT, "rewrite") as rewrite,
        RedisStreamPublisher(PROJECT, "storyboard") as storyboard,
        RedisStreamPublisher(PROJECT, "pipeline") as pipeline,
        beside(examples.subscriber_of_all_stages),
    ):
        rewrite.publish_stage_update("processing", 0)
        wait_until(lambda: said)
        rewrite.publish_done("a")
        storyboard.publish_stage_update("processing", 0)
        storyboard.publish_error("b")
        pipeline.publish_pipeline_done()
    assert said == [
        "阶段: rewrite, 类型: stage_update",
        "阶段: rewrite, 类型: done",
        "阶段: storyboard, 类型: stage_update",
        "阶段: storyboard, 类型: error",
        "阶段: pipeline, 类型: pipeline_done",
    ]


@pytest.mark.usefixtures("configured")
def test_the_subscriber_as_context_manager() -> None:
    """Each message is processed until the stage ends."""
    processed: list[Any] = []
    with (
        RedisStreamPublisher(PROJECT, STAGE) as publisher,
        beside(examples.subscriber_as_context_manager, PROJECT, STAGE, processed.append),
    ):
        publisher.publish_stage_update("processing", 0)
        wait_until(lambda: processed)
        publisher.publish_done("Hello")
    assert [message["type"] for message in processed] == ["stage_update", "done"]


@pytest.mark.usefixtures("configured")
def test_batches_of_ten_tokens() -> None:
    """Ten tokens are one message; what is left over at the end the example does not send, and the text says so."""
    tokens = [f"{number} " for number in range(25)]
    with RedisStreamSubscriber(PROJECT, STAGE) as subscriber, RedisStreamPublisher(PROJECT, STAGE) as publisher:
        examples.batches(tokens, publisher)
        publisher.publish_done(full_text=publisher.text)
        first, second, done = list(subscriber.listen(timeout=10))
    assert (first["content"], second["content"]) == ("".join(tokens[:10]), "".join(tokens[10:20]))
    assert second["full_text"] == done["full_text"] == "".join(tokens[:20])


@pytest.mark.usefixtures("configured")
def test_the_timeout_of_listen() -> None:
    """`listen(timeout=300)` waits for no 300 seconds where messages come: it ends with the stage."""
    with RedisStreamSubscriber(PROJECT, STAGE) as subscriber:
        examples.publisher_as_context_manager(PROJECT, STAGE)
        assert [message["type"] for message in examples.timeout(subscriber)] == ["token", "done"]


def test_a_publisher_that_says_nothing_leaves_nothing(configured: RedisServer) -> None:
    """`with ...: pass` closes by itself, and writes no key."""
    examples.nothing_published(PROJECT, STAGE)
    with configured.client() as client:
        assert client.keys("*") == []


@pytest.fixture(params=["own_client", "own_pool"])
def own(request: pytest.FixtureRequest, configured: RedisServer) -> Iterator[Any]:
    """The seed's own client and its own pool, each with the seed's parameters."""
    client: redis.Redis = getattr(examples, request.param)(configured.url)
    yield client
    client.close()
    client.connection_pool.disconnect()


def test_an_own_client_listens_beside_stagecast(own: Any) -> None:
    """`psubscribe "ai_story:*"` sees each of the seed's messages on the seed's channel."""
    assert own.ping() is True
    messages: list[dict[str, Any]] = []
    with own.pubsub(ignore_subscribe_messages=True) as reader:
        reader.psubscribe("ai_story:*")
        reader.get_message(timeout=5)  # the confirmation
        app.execute_llm_stage(PROJECT, STAGE, {})
        while not messages or messages[-1]["type"] != "done":
            found = reader.get_message(timeout=5)
            if found is not None:
                assert found["channel"] == CHANNEL
                messages.append(json.loads(found["data"]))
    assert [message["type"] for message in messages] == ["stage_update", *["token"] * 4, "done"]
    assert "".join(message.get("content", "") for message in messages) == "".join(app.ScriptedModel.tokens)
    assert messages[-1]["full_text"] == "".join(app.ScriptedModel.tokens)
    assert not any("full_text" in message for message in messages[:-1]), "tokens are deltas there"


def test_channels_and_numsub_count_foreign_readers_only(own: Any) -> None:
    """`pubsub channels` and `pubsub numsub` show who reads the seed's channels, which stagecast itself does not."""
    with RedisStreamSubscriber(PROJECT, STAGE), own.pubsub() as reader:
        assert own.pubsub_channels("ai_story:*") == []
        assert own.pubsub_numsub(CHANNEL) == [(CHANNEL, 0)]
        reader.subscribe(CHANNEL)
        wait_until(lambda: own.pubsub_numsub(CHANNEL) == [(CHANNEL, 1)])
        assert own.pubsub_channels("ai_story:*") == [CHANNEL]


@pytest.mark.usefixtures("configured")
def test_debug_logging_tells_no_content(caplog: pytest.LogCaptureFixture) -> None:
    """Everything is logged under the logger `stagecast`: what is refused is told there, by its name."""
    logger = examples.debug_logging()
    unfit: Any = {"what": object()}
    with caplog.at_level(logging.DEBUG, logger.name), RedisStreamPublisher(PROJECT, STAGE) as publisher:
        publisher.publish_token("secret words")
        assert publisher.publish_done(metadata=unfit) is False
    told = [record.getMessage() for record in caplog.records if record.name.startswith(f"{logger.name}.")]
    assert told, "the refusal is told"
    assert not any("secret words" in line for line in told)


def test_the_raw_channel_carries_full_text_on_request(own: Any, configured: RedisServer) -> None:
    """With `full_text` readers of old get what they are used to, through the publisher of old."""
    bus = RedisBus(CODEC, BusLimits(), connect_to(configured.url), seed=SeedChannels(full_text=True))
    texts: list[str] = []
    try:
        with own.pubsub(ignore_subscribe_messages=True) as reader, RedisStreamPublisher(PROJECT, STAGE, bus=bus) as one:
            reader.psubscribe("ai_story:*")
            reader.get_message(timeout=5)  # the confirmation
            for token in app.ScriptedModel.tokens:
                one.publish_token(token)
            while len(texts) < len(app.ScriptedModel.tokens):
                if (found := reader.get_message(timeout=5)) is not None:
                    texts.append(json.loads(found["data"])["full_text"])
    finally:
        background().call(bus.aclose(), 5)
    assert texts == list(accumulate(app.ScriptedModel.tokens))
