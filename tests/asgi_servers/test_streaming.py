"""Each ASGI server streams: one token at a time, the whole text exactly, and viewers that go are forgotten."""

import asyncio

from stagecast import RedisStreamPublisher
from stagecast.adapters.redis.state import Keys
from tests.asgi_servers.launching import Launched
from tests.reading import rebuilt
from tests.servers import RedisServer
from tests.sse.browser import request, stage_path
from tests.sse.eventstream import types
from tests.sse.texts import from_deltas
from tests.waiting import eventually

PIECES = [f"{number}字😀 " for number in range(300)]


async def test_each_token_arrives_before_the_next_is_published(
    server: Launched, redis: RedisServer, project: str
) -> None:
    """R121: no server holds a token back until more come, nor the first message of a silent stage."""
    async with request(server.port, stage_path(project)) as browser:
        assert browser.status == 200
        assert browser.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert browser.headers["cache-control"] == "no-cache, no-transform"
        assert browser.headers["x-accel-buffering"] == "no"
        assert (await browser.next()).message["type"] == "connected"
        with RedisStreamPublisher(project, "rewrite", bus=redis.url) as publisher:
            for piece in PIECES[:20]:
                publisher.publish_token(piece)
                assert (await browser.next()).message["content"] == piece


async def test_the_text_is_exact(server: Launched, redis: RedisServer, project: str) -> None:
    """Published as fast as it goes, the text that the tokens build up is whole, with and without `full_text`."""
    async with (
        request(server.port, stage_path(project)) as whole,
        request(server.port, stage_path(project, query="delta=1")) as delta,
    ):
        await whole.next()
        await delta.next()
        with RedisStreamPublisher(project, "rewrite", bus=redis.url) as publisher:
            for piece in PIECES:
                publisher.publish_token(piece)
            assert await asyncio.to_thread(publisher.publish_done)
        messages = await whole.rest()
        assert types(messages)[-2:] == ["done", "stream_end"]
        assert rebuilt(messages) == "".join(PIECES)
        assert from_deltas(await delta.rest()) == "".join(PIECES)
        assert whole.ended
        assert delta.ended


async def test_who_leaves_is_forgotten(server: Launched, redis: RedisServer, project: str) -> None:
    """A server stops listening to a project whose viewers are gone, though it has nothing to send to them."""
    feed = Keys(project).feed
    with redis.client() as client:

        def listeners() -> int:
            return int(client.pubsub_numsub(feed)[0][1])

        async with request(server.port, stage_path(project)) as browser, request(server.port, stage_path(project)):
            await browser.next()
            await eventually(lambda: listeners() == 1)
        await eventually(lambda: listeners() == 0, 10)
