"""Publishing with log, snapshot and channel beside plain PUBLISH, alternating in one process.

python -m benchmarks.throughput PLACE
"""

import asyncio
import json
import sys
import time
from typing import Any
from uuid import uuid4

import redis
import redis.asyncio
from attrs import evolve

from benchmarks.peers.seed_app import channel_of
from benchmarks.peers.sources import Place, message
from stagecast import open_bus
from stagecast.domain.bus import Batch
from stagecast.domain.events import TokenEmitted
from stagecast.domain.topics import Topic

WORD = "abcd "


async def plain(client: "redis.asyncio.Redis", topic: str, count: int) -> None:
    """PUBLISH of the seed's message, one awaited after another, by the client that stagecast uses too."""
    channel = channel_of(topic)
    for _ in range(count):
        await client.publish(channel, json.dumps(message(topic, WORD)))


def plain_sync(client: "redis.Redis", topic: str, count: int) -> None:
    """The same by the synchronous client, as the seed's publisher does it."""
    channel = channel_of(topic)
    for _ in range(count):
        client.publish(channel, json.dumps(message(topic, WORD)))


async def batches(bus: Any, topic: str, count: int, size: int) -> None:
    """Tokens in batches of `size`, one batch awaited after another."""
    batch = Batch(topic=Topic.of(topic, "s"), producer=uuid4().hex, first=1, new_run=uuid4().hex)
    length = 0
    for _ in range(count // size):
        events = []
        for _ in range(size):
            events.append(TokenEmitted(project=topic, stage="s", timestamp=time.time(), content=WORD, offset=length))
            length += len(WORD)
        receipt = await bus.publish(evolve(batch, events=tuple(events)))
        batch = evolve(batch, first=batch.first + size, run=receipt.run, acknowledged=receipt.position)


async def one_round(place: Place, order: dict[str, Any]) -> dict[str, float]:
    """Events a second of each way."""
    few, many, size, n = order["publishes"], order["batched"], order["batch"], order["round"]
    bus = open_bus(place.redis_url)
    client = redis.asyncio.Redis.from_url(place.redis_url)
    sync_client = redis.Redis.from_url(place.redis_url)
    try:
        await batches(bus, f"warm{n}", 2, 1)
        await client.ping()
        ways: dict[str, tuple[int, Any]] = {
            "plain": (few, lambda: plain(client, f"plain{n}", few)),
            "one_by_one": (few, lambda: batches(bus, f"one{n}", few, 1)),
            "batched": (many, lambda: batches(bus, f"many{n}", many, size)),
        }
        found = {}
        for name, (count, way) in ways.items():
            began = time.perf_counter()
            await way()
            found[name] = count / (time.perf_counter() - began)
        began = time.perf_counter()
        plain_sync(sync_client, f"sync{n}", few)
        found["plain_sync"] = few / (time.perf_counter() - began)
        return found
    finally:
        await bus.aclose()
        await client.aclose()
        sync_client.close()


def main() -> None:
    place = Place(**json.loads(sys.argv[1]))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(asyncio.run(one_round(place, json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
