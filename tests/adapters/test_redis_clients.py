"""What a caller brings for a connection: a URL with redis-py's options works, a client of their own is refused."""

import asyncio
import logging
from typing import Any

import pytest
import redis
import redis.asyncio

from stagecast import RedisStreamPublisher, RedisStreamSubscriber, open_bus
from stagecast.domain.errors import NotConfigured
from stagecast.entrypoints.background import background
from stagecast.entrypoints.sse import create_app
from tests.reading import rebuilt
from tests.servers import RedisServer

OPTIONS = ["", "decode_responses=True", "decode_responses=False", "protocol=3", "protocol=3&decode_responses=True"]
WORDS = ["你好, ", "a ", "😀", "\n", "end"]


@pytest.mark.parametrize("options", OPTIONS)
def test_options_of_the_url_change_no_answer(
    options: str, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """R84: With replies decoded or not, by RESP2 or RESP3, a stage streams live and late, and nothing is warned of."""
    caplog.set_level(logging.DEBUG, "stagecast")
    bus = open_bus(f"{redis_server.url}?{options}")
    try:
        with (
            RedisStreamSubscriber("123", "rewrite", bus=bus) as subscriber,
            RedisStreamPublisher("123", "rewrite", bus=bus) as publisher,
        ):
            publisher.publish_stage_update("processing", 0)
            for word in WORDS:
                assert publisher.publish_token(word)
            assert publisher.flush()
            with RedisStreamSubscriber("123", "rewrite", bus=bus) as late:
                assert publisher.publish_done(publisher.text)
                assert rebuilt(list(late.listen(5))) == "".join(WORDS)
            assert rebuilt(list(subscriber.listen(5))) == "".join(WORDS)
            last_id = subscriber.last_id
        with RedisStreamPublisher("123", "rewrite", bus=bus) as publisher:
            publisher.publish_token("again")
            publisher.publish_done("again")
        with RedisStreamSubscriber("123", "rewrite", bus=bus, last_id=last_id) as returning:
            assert [message["type"] for message in returning.listen(5)] == ["reset", "token", "done"]
    finally:
        background().call(bus.aclose(), 5)
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize("decode_responses", [True, False])
@pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis], ids=["blocking", "asyncio"])
def test_a_client_of_ones_own_is_refused_where_it_is_given(kind: Any, decode_responses: bool) -> None:
    """R84: A ready-made client, decoding or not, is no bus: the constructor says so, and what to give instead."""
    client = kind(decode_responses=decode_responses)
    for construct in (
        lambda: RedisStreamPublisher("123", "rewrite", bus=client),
        lambda: RedisStreamSubscriber("123", "rewrite", bus=client),
        lambda: open_bus(client),
        lambda: create_app(client),
    ):
        with pytest.raises(NotConfigured, match=r"a redis\.\S+Redis is no bus: give the URL of its server") as refusal:
            construct()
        assert "Traceback" not in str(refusal.value)
    if kind is redis.asyncio.Redis:
        asyncio.run(client.aclose())
    else:
        client.close()


@pytest.mark.parametrize("password", ["pa/ss", "pa?ss", "pa#ss"])
def test_a_password_that_breaks_its_url_is_not_told(password: str) -> None:
    """No part of a password that was not percent-encoded comes into a message; what to do does."""
    with pytest.raises(NotConfigured, match="percent-encoded") as refusal:
        open_bus(f"redis://user:{password}@localhost:6379/0")
    assert "pa" not in str(refusal.value).replace("password", "")
