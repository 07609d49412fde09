# pyright: reportMissingImports=false
"""(b) sse-starlette with one Redis connection for the process, and a queue for each viewer."""

import asyncio
import json
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import redis
import redis.asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from .sources import Paced, Place, message

URL = os.environ.get("BENCHMARK_REDIS", "")
PREFIX = "shared:"
CONNECTED = json.dumps({"type": "connected"})

_queues: defaultdict[str, set["asyncio.Queue[str]"]] = defaultdict(set)


def open_source(place: Place) -> Paced:
    client = redis.Redis.from_url(place.redis_url)
    return Paced(lambda topic, content: client.publish(PREFIX + topic, json.dumps(message(topic, content))))


async def _fan_out() -> None:
    client = redis.asyncio.Redis.from_url(URL, decode_responses=True)
    async with client.pubsub() as subscription:
        await subscription.psubscribe(PREFIX + "*")
        async for found in subscription.listen():
            if found["type"] == "pmessage":
                for queue in _queues.get(found["channel"][len(PREFIX) :], ()):
                    queue.put_nowait(found["data"])


async def _messages(topic: str) -> AsyncIterator[dict[str, Any]]:
    queue: asyncio.Queue[str] = asyncio.Queue()
    _queues[topic].add(queue)
    try:
        yield {"data": CONNECTED}
        while True:
            yield {"data": await queue.get()}
    finally:
        _queues[topic].discard(queue)


async def _stream(request: Request) -> Any:
    from sse_starlette import EventSourceResponse  # the publisher's process needs none

    return EventSourceResponse(_messages(request.path_params["topic"]), ping=15)


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    task = asyncio.create_task(_fan_out())
    yield
    task.cancel()


app = Starlette(routes=[Route("/{topic}", _stream)], lifespan=_lifespan)
