"""What a Redis server tells about itself and about what stagecast keeps in it. Gathers facts, judges none."""

import re
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from attrs import frozen
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from stagecast.domain.errors import BusUnavailable

from .link import OLDEST_SERVER, connect_to, translated
from .state import Keys

PREFIX = "stagecast:"
SEED_PREFIX = "ai_story:"
MOST_KEYS = 100_000
"""Keys that are looked at; a server may hold more."""

_PINGS = 5
_PAGE = 1000
_KEY = re.compile(r"stagecast:\d+:\{(?P<project>[^}]*)\}:(?P<name>.*)", re.DOTALL)


@frozen(kw_only=True)
class Server:
    """The server; None is what it does not tell."""

    version: str
    is_supported: bool
    ping: float
    """Seconds, the fastest of a few."""
    skew: float
    """Seconds that its clock is ahead of this machine's."""
    policy: str | None
    maxmemory: int | None
    used_memory: int | None
    maxclients: int | None
    clients: int | None
    pubsub_limit: tuple[int, int, int] | None
    """Hard limit and soft limit in bytes, and seconds above the soft one, of a subscriber's output buffer."""


@frozen(kw_only=True)
class Contents:
    """What stagecast keeps there."""

    keys: int
    is_complete: bool
    """False where there were more keys than are looked at."""
    without_ttl: list[str]
    projects: list[str]
    live: list[str]
    """Projects that somebody publishes to now, or did a moment ago."""
    followers: dict[str, int]
    """Channel -> connections subscribed to it."""


async def inspect_server(url: str) -> Server:
    """Raises BusUnavailable."""
    async with _client(url) as client:
        pings = [await _timed(client.ping()) for _ in range(_PINGS)]
        before = time.time()
        seconds, microseconds = await translated(_awaitable(client.time()))
        skew = seconds + microseconds / 1e6 - (before + time.time()) / 2
        information = await _information(client)
        version = str(information.get("valkey_version") or information.get("redis_version") or "unknown")
        compatible = str(information.get("redis_version", "7.0"))
        name = "Valkey" if "valkey_version" in information else "Redis"
        return Server(
            version=f"{name} {version}",
            is_supported=tuple(int(part) for part in compatible.split(".")[:2] if part.isdigit()) >= OLDEST_SERVER,
            ping=min(pings),
            skew=skew,
            policy=information.get("maxmemory_policy"),
            maxmemory=information.get("maxmemory"),
            used_memory=information.get("used_memory"),
            maxclients=information.get("maxclients"),
            clients=information.get("connected_clients"),
            pubsub_limit=await _pubsub_limit(client),
        )


async def inspect_contents(url: str) -> Contents:
    """Looks at keys page by page, so a busy server is not held up. Raises BusUnavailable."""
    async with _client(url) as client:
        found: set[bytes] = set()
        without_ttl: list[str] = []
        cursor = 0
        while True:
            cursor, page = await translated(_awaitable(client.scan(cursor, match=f"{PREFIX}*", count=_PAGE)))
            keys = [key for key in page if key not in found]
            found.update(keys)
            async with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.ttl(key)
                for key, ttl in zip(keys, await translated(pipe.execute()), strict=True):
                    if ttl == -1:
                        without_ttl.append(key.decode(errors="replace"))
            if cursor == 0 or len(found) >= MOST_KEYS:
                break
        parsed = [(key, match) for key in found if (match := _KEY.fullmatch(key.decode(errors="replace")))]
        leases = [key for key, match in parsed if match["name"] == "leases"]
        return Contents(
            keys=len(found),
            is_complete=cursor == 0,
            without_ttl=sorted(without_ttl),
            projects=sorted({match["project"] for _, match in parsed}),
            live=await _held(client, leases),
            followers=await _followers(client),
        )


async def forget(url: str, project: str, stage: str) -> None:
    """Delete what is kept of a project that has this one stage only. Raises BusUnavailable."""
    async with _client(url) as client:
        await translated(_awaitable(client.unlink(*Keys(project).of_stage(stage))))


@asynccontextmanager
async def _client(url: str) -> AsyncIterator["Redis"]:
    client = connect_to(url)(max_connections=1)
    try:
        yield client
    finally:
        await client.aclose()
        await client.connection_pool.disconnect()


def _awaitable(call: object) -> Awaitable[Any]:
    """redis-py's annotations leave open whether a client is asynchronous."""
    return cast("Awaitable[Any]", call)


async def _timed(call: object) -> float:
    began = time.perf_counter()
    await translated(_awaitable(call))
    return time.perf_counter() - began


async def _information(client: "Redis") -> Mapping[str, Any]:
    try:
        answer: Mapping[str, Any] = await translated(_awaitable(client.info()))
    except BusUnavailable as error:
        if not isinstance(error.__cause__, ResponseError):  # a server that does not tell
            raise
        return {}
    return answer


async def _pubsub_limit(client: "Redis") -> tuple[int, int, int] | None:
    name = "client-output-buffer-limit"
    try:
        answer = await translated(_awaitable(client.config_get(name)))
    except BusUnavailable as error:
        if not isinstance(error.__cause__, ResponseError):  # managed servers often refuse CONFIG
            raise
        return None
    value = {_text(key): _text(text) for key, text in answer.items()}.get(name, "")
    words = value.split()
    if "pubsub" not in words:
        return None
    at = words.index("pubsub")
    hard, soft, seconds = (int(word) for word in words[at + 1 : at + 4])
    return hard, soft, seconds


async def _held(client: "Redis", leases: list[bytes]) -> list[str]:
    async with client.pipeline(transaction=False) as pipe:
        for key in leases:
            pipe.hlen(key)
        sizes = await translated(pipe.execute())
    held = [key.decode(errors="replace") for key, size in zip(leases, sizes, strict=True) if size]
    return sorted(match["project"] for key in held if (match := _KEY.fullmatch(key)))


async def _followers(client: "Redis") -> dict[str, int]:
    channels: list[bytes] = []
    for prefix in (PREFIX, SEED_PREFIX):
        channels += await translated(_awaitable(client.pubsub_channels(f"{prefix}*")))
    if not channels:
        return {}
    numbers = await translated(_awaitable(client.pubsub_numsub(*channels)))
    return {_text(channel): int(number) for channel, number in numbers}


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
