# pyright: reportMissingImports=false
"""(a) The seed's design: a Redis connection a viewer, sse-starlette, the whole text in each message."""

import json
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import redis
import redis.asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from .sources import Paced, Place, message

URL = os.environ.get("BENCHMARK_REDIS", "")
CONNECTED = json.dumps({"type": "connected"})


def channel_of(topic: str) -> str:
    return f"ai_story:project:{topic}:stage:s"


def open_source(place: Place) -> Paced:
    """`core.redis.RedisStreamPublisher` in short: one PUBLISH a call, with `full_text`."""
    client = redis.Redis.from_url(place.redis_url)
    texts: defaultdict[str, str] = defaultdict(str)

    def publish(topic: str, content: str) -> None:
        texts[topic] += content
        whole = {**message(topic, content), "full_text": texts[topic]}
        client.publish(channel_of(topic), json.dumps(whole))

    return Paced(publish)


async def _messages(topic: str) -> AsyncIterator[dict[str, Any]]:
    client = redis.asyncio.Redis.from_url(URL, decode_responses=True)
    try:
        async with client.pubsub() as subscription:
            await subscription.subscribe(channel_of(topic))
            yield {"data": CONNECTED}
            async for found in subscription.listen():
                if found["type"] == "message":
                    yield {"data": found["data"]}
    finally:
        await client.aclose()


async def _stream(request: Request) -> Any:
    from sse_starlette import EventSourceResponse  # the publisher's process needs none

    return EventSourceResponse(_messages(request.path_params["topic"]), ping=15)


app = Starlette(routes=[Route("/{topic}", _stream)])
