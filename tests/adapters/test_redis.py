"""What Redis itself shows: keys and their lives, the seed's channels, connections, outages."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from stagecast.adapters.codec import JsonCodec
from stagecast.adapters.redis.bus import RedisBus, open_redis_bus
from stagecast.adapters.redis.link import connect_to
from stagecast.adapters.redis.settings import SeedChannels
from stagecast.domain.bus import BusLimits, Published, Snapshot
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.events import StageCompleted, TokenEmitted
from stagecast.domain.following import Follower
from stagecast.domain.positions import Position
from stagecast.domain.publishing import StagePublisher
from stagecast.domain.topics import Topic
from tests.servers import RedisKind, RedisServer, free_port, start_redis
from tests.waiting import eventually

CODEC = JsonCodec()
TOPIC = Topic("123", "rewrite")


@asynccontextmanager
async def redis_bus(server: RedisServer, limits: BusLimits | None = None, **options: Any) -> AsyncIterator[RedisBus]:
    bus = RedisBus(CODEC, limits or BusLimits(), connect_to(server.url), **options)
    try:
        yield bus
    finally:
        await bus.aclose()


@asynccontextmanager
async def publishing(bus: RedisBus, topic: Topic = TOPIC) -> AsyncIterator[StagePublisher]:
    publisher = StagePublisher(bus, topic, CODEC)
    delivering = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        publisher.close()
        await asyncio.wait_for(delivering, 30)


async def test_a_stage_of_100_000_tokens_is_one_message_for_a_late_joiner(redis_server: RedisServer) -> None:
    """A 100,000-token stage: late join in one delivery, no key without a time to live, the log bounded."""
    async with redis_bus(redis_server, BusLimits(log_length=2_000)) as bus, publishing(bus) as publisher:
        for block in range(20):
            for number in range(5_000):
                assert publisher.publish_token(f"{(block * 5_000 + number):06d}")
            assert await publisher.flush(30)
        async with bus.subscribe(TOPIC) as late:
            delivery = await asyncio.wait_for(anext(late), 5)
        assert isinstance(delivery, Snapshot)
        text = delivery.stages["rewrite"].text
        assert len(text) == 600_000
        assert text == "".join(f"{number:06d}" for number in range(100_000))
        client = redis_server.client()
        keys = client.keys("*")
        assert {key.decode() if isinstance(key, bytes) else key for key in keys} == {
            f"stagecast:1:{{123}}:{name}" for name in ("log", "meta", "leases", "producers", "text:rewrite")
        }
        lives = {key: client.pttl(key) for key in keys}
        assert all(0 < life <= 6 * 3600 * 1000 for life in lives.values()), lives
        assert max(lives.values()) - min(lives.values()) < 1_000
        assert 2_000 <= client.xlen("stagecast:1:{123}:log") < 2_400


async def test_the_seeds_channels_carry_the_seeds_messages_once(redis_server: RedisServer) -> None:
    """A foreign reader of `ai_story:*` gets each message of the seed once, with an id, and nothing of ours."""
    async with redis_bus(redis_server) as bus, Redis.from_url(redis_server.url, protocol=2) as foreign:
        async with foreign.pubsub(ignore_subscribe_messages=True) as reader:
            await reader.psubscribe("ai_story:*")
            await reader.get_message(timeout=5)
            async with publishing(bus) as publisher:
                publisher.publish_stage_update("processing", 0)
                for token in ("你", "好", "🙂"):
                    publisher.publish_token(token)
                publisher.publish_progress(1, 3, "分镜1")
                publisher.publish_done("你好🙂", {"tokens_used": 3})
                publisher.publish_stage_completed({"tokens_used": 3})
                assert await publisher.flush(5)
            messages: list[dict[str, Any]] = []
            while not messages or messages[-1]["type"] != "stage_completed":
                found = await reader.get_message(timeout=5)
                if found is not None:
                    assert found["channel"] == b"ai_story:project:123:stage:rewrite"
                    messages.append(json.loads(found["data"]))
    kinds = ["stage_update", "token", "token", "token", "progress", "done", "stage_completed"]
    assert [message["type"] for message in messages] == kinds
    ids = [message.pop("id") for message in messages]
    assert len(set(ids)) == len(ids)
    assert all(message.pop("timestamp") > 1e9 for message in messages)
    assert messages[1] == {"type": "token", "content": "你", "stage": "rewrite", "project_id": "123"}
    assert messages[5] == {
        "type": "done",
        "stage": "rewrite",
        "project_id": "123",
        "full_text": "你好🙂",
        "metadata": {"tokens_used": 3},
    }


async def test_tokens_for_readers_of_old_carry_full_text(redis_server: RedisServer) -> None:
    """With the setting, tokens on the seed's channel carry the whole text so far."""
    async with (
        redis_bus(redis_server, seed=SeedChannels(full_text=True)) as bus,
        Redis.from_url(redis_server.url, protocol=2) as foreign,
        foreign.pubsub(ignore_subscribe_messages=True) as reader,
    ):
        await reader.psubscribe("ai_story:*")
        await reader.get_message(timeout=5)
        async with publishing(bus) as publisher:
            for token in ("a", '\n/"', "🙂"):
                publisher.publish_token(token)
            assert await publisher.flush(5)
        texts: list[str] = []
        while len(texts) < 3:
            if (found := await reader.get_message(timeout=5)) is not None:
                texts.append(json.loads(found["data"])["full_text"])
    assert texts == ["a", 'a\n/"', 'a\n/"🙂']


async def test_nothing_is_published_to_the_seeds_channels_where_they_are_off(redis_server: RedisServer) -> None:
    """Without seed channels a foreign reader gets nothing."""
    async with (
        redis_bus(redis_server, seed=SeedChannels(channel="off")) as bus,
        Redis.from_url(redis_server.url, protocol=2) as foreign,
        foreign.pubsub() as reader,
    ):
        await reader.psubscribe("*")
        await reader.get_message(timeout=5)
        async with publishing(bus) as publisher:
            publisher.publish_token("a")
            assert await publisher.flush(5)
        found = await reader.get_message(timeout=5)
    assert found is not None
    assert found["channel"] == b"stagecast:1:{123}:feed"


async def test_one_feed_connection_serves_all_subscriptions_and_leaves_no_channel(any_redis: RedisServer) -> None:
    """R97, R102: 50 subscriptions to 25 projects take at most three connections; none of it is left behind."""
    client = any_redis.client()
    others = {one["id"] for one in client.client_list()}

    def ours() -> int:
        return sum(1 for one in client.client_list() if one["name"] == "stagecast" and one["id"] not in others)

    async with redis_bus(any_redis) as bus:
        async with asyncio.TaskGroup() as group:
            entered = asyncio.Event()
            waiting = 0

            async def watch(project: str) -> None:
                nonlocal waiting
                async with bus.subscribe(Topic(project)) as subscription:
                    assert isinstance(await anext(subscription), Snapshot)
                    waiting += 1
                    await entered.wait()

            for number in range(50):
                group.create_task(watch(str(number % 25)))
            await eventually(lambda: waiting == 50)
            assert len(client.pubsub_channels("stagecast:*")) == 25
            assert ours() <= 3
            entered.set()
        await eventually(lambda: not client.pubsub_channels("stagecast:*"))
    await eventually(lambda: ours() == 0)


async def test_a_killed_feed_is_made_again_and_nothing_is_missed(any_redis: RedisServer) -> None:
    """R11, R15: the feed's connection is killed twice in mid-stream; the subscriber gets every token once."""
    client = any_redis.client()
    async with redis_bus(any_redis) as bus, publishing(bus) as publisher, bus.subscribe(TOPIC) as subscription:
        assert isinstance(await anext(subscription), Snapshot)
        follower = Follower(subscription, TOPIC, patience=5)
        for number in range(200):
            if number in {50, 120}:
                assert await publisher.flush(5)
                client.client_kill_filter(_type="pubsub", skipme=True)
            publisher.publish_token(f"{number} ")
        publisher.publish_done()
        assert await publisher.flush(5)
        pieces = []
        async with asyncio.timeout(20):
            async for shown in follower:
                if isinstance(shown.content, TokenEmitted):
                    pieces.append(shown.content.content)
    assert "".join(pieces) == "".join(f"{number} " for number in range(200))


async def test_a_lost_last_message_is_found_in_the_silence_after_it(any_redis: RedisServer) -> None:
    """The feed loses the last message; the next look at the log's end finds it."""
    async with redis_bus(any_redis, BusLimits(lease=0.4)) as bus, publishing(bus) as publisher:
        async with bus.subscribe(TOPIC) as subscription:
            await anext(subscription)
            publisher.publish_token("a")
            while True:
                delivery = await asyncio.wait_for(anext(subscription), 5)
                if isinstance(delivery, Published) and isinstance(delivery.event, TokenEmitted):
                    break
            subscription.offer = lambda *_: None  # type: ignore[method-assign]
            publisher.publish_token("b")
            delivery = await asyncio.wait_for(anext(subscription), 5)
            assert isinstance(delivery, Published)
            assert isinstance(delivery.event, TokenEmitted)
            assert delivery.event.content == "b"


async def test_a_restart_without_persistence_loses_nothing_a_living_publisher_holds(redis_kind: RedisKind) -> None:
    """R10, R16: Redis is killed in mid-stream and comes back empty; the viewer ends with the exact text."""
    with start_redis(redis_kind) as server:
        async with redis_bus(server) as bus, publishing(bus) as publisher, bus.subscribe(TOPIC) as subscription:
            follower = Follower(subscription, TOPIC, patience=15)
            shown_text = ""
            is_over = False

            async def view() -> None:
                nonlocal shown_text, is_over
                async for shown in follower:
                    if isinstance(shown.content, TokenEmitted):
                        token = shown.content
                        shown_text = token.content if token.offset == 0 else shown_text + token.content
                    elif isinstance(shown.content, StageCompleted):
                        is_over = True

            viewer = asyncio.create_task(view())
            for number in range(100):
                publisher.publish_token(f"{number} ")
            publisher.publish_item_completed("image", 1, {"url": "x"})
            assert await publisher.flush(10)
            server.kill()
            for number in range(100, 200):
                assert publisher.publish_token(f"{number} ")
            assert not await publisher.flush(0.3)
            server.restart()
            for number in range(200, 300):
                publisher.publish_token(f"{number} ")
            publisher.publish_done()
            assert await publisher.flush(20)
            await asyncio.wait_for(viewer, 20)
            assert is_over
            assert shown_text == "".join(f"{number} " for number in range(300))
            assert "item:image:1" in follower.view.stages["rewrite"].slots


async def test_an_unreachable_redis_is_a_typed_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Redis cannot be reached: BusUnavailable, from subscribing and from cancelling alike."""
    bus = open_redis_bus(f"redis://127.0.0.1:{free_port()}", CODEC, BusLimits())
    with pytest.raises(BusUnavailable):
        async with asyncio.timeout(10), bus.subscribe(TOPIC):
            pass
    with pytest.raises(BusUnavailable):
        await bus.cancel(TOPIC, "run")
    await bus.aclose()


async def test_news_out_of_order_come_out_in_order(any_redis: RedisServer) -> None:
    """R62: the feed brings the news of events 1, 3, 2; the subscription yields 1, 2, 3, each once."""
    async with redis_bus(any_redis) as bus, publishing(bus) as publisher, bus.subscribe(TOPIC) as subscription:
        await anext(subscription)
        news: list[tuple[Position, str, list[bytes]]] = []
        offer = subscription.offer
        subscription.offer = lambda *one: news.append(one)  # type: ignore[method-assign]
        for token in ("a", "b", "c"):
            publisher.publish_token(token)
            assert await publisher.flush(5)
        await eventually(lambda: len(news) == 3)
        subscription.offer = offer  # type: ignore[method-assign]
        for one in (news[0], news[2], news[1]):
            subscription.offer(*one)
        publisher.publish_token("d")
        deliveries = [await asyncio.wait_for(anext(subscription), 5) for _ in range(5)]
    events = [one.event for one in deliveries if isinstance(one, Published)]
    assert [event.content for event in events if isinstance(event, TokenEmitted)] == ["a", "b", "c", "d"]
    positions = [one.position for one in deliveries if one.position is not None]
    assert positions == sorted(set(positions))


async def test_a_short_socket_timeout_does_not_end_a_quiet_subscription(any_redis: RedisServer) -> None:
    """R07: with `socket_timeout` far below the silence, no error comes up and the event after it arrives once."""
    bus = RedisBus(CODEC, BusLimits(), connect_to(f"{any_redis.url}?socket_timeout=0.2"))
    client = any_redis.client()
    try:
        async with publishing(bus) as publisher, bus.subscribe(TOPIC) as subscription:
            await anext(subscription)

            def feeds() -> list[Any]:
                return [one["id"] for one in client.client_list(_type="pubsub")]

            before = feeds()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(subscription), 1.5)
            publisher.publish_token("late")
            opened, token = [await asyncio.wait_for(anext(subscription), 5) for _ in range(2)]
            assert isinstance(opened, Published)
            assert isinstance(token, Published)
            assert isinstance(token.event, TokenEmitted)
            assert token.event.content == "late"
            assert feeds() == before
    finally:
        await bus.aclose()
