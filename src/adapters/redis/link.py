"""One event loop's connections to Redis: two for commands, one for the feed. Translates errors; knows no rules.

redis-py's defaults are not ours where they hurt: its socket timeout would end a quiet feed, so the feed has none and
is supervised by pings; and a reconnecting PubSub hides the gap that must be caught up, so the feed's connection is
plain and the set of wanted channels is ours.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from importlib.resources import files
from typing import Any, Protocol, TypeAlias, TypeVar

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from stagecast.domain.errors import BusUnavailable, NotConfigured

from .packing import PackingPool
from .sentinel import MasterPool, is_sentinel_url, parse_sentinel_url
from .settings import ConnectionSettings
from .state import Keys

logger = logging.getLogger("stagecast.redis")

DEFAULTS = ConnectionSettings()
OLDEST_SERVER = (7, 0)
NO_CLUSTER = (
    "this server is of a Redis Cluster whose slots are not all in one master, which is not supported: "
    "name one Redis, or Sentinels by redis+sentinel://"
)

Argument: TypeAlias = bytes | str | int

_Answer = TypeVar("_Answer")


UVLOOP_CLOSED = "the handler is closed"
"""In the RuntimeError that uvloop raises for a write to a connection which was torn: others raise an OSError."""


class Connect(Protocol):
    """Makes a client. It must give bytes (no decoding) and not connect yet."""

    def __call__(self, *, max_connections: int) -> "Redis": ...


def connect_to(url: str, settings: ConnectionSettings = DEFAULTS) -> Connect:
    """Clients for a Redis URL or that of Sentinels; options in the URL's query win over ours. Raises ValueError."""
    sentinels = parse_sentinel_url(url) if is_sentinel_url(url) else None

    def connect(*, max_connections: int) -> "Redis":
        options: dict[str, Any] = {
            "max_connections": max_connections,
            "timeout": settings.command_timeout,
            "socket_timeout": settings.command_timeout,
            "protocol": 2,
            "client_name": "stagecast",
        }
        pool: PackingPool
        if sentinels is not None:
            pool = sentinels.pool(connect_timeout=settings.connect_timeout, **options)
        else:
            # A command may safely be sent twice (the script skips what it has), so a pooled connection that the server
            # has closed in the meantime costs one quiet retry.
            retry = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
            options |= {"socket_connect_timeout": settings.connect_timeout, "retry": retry}
            pool = PackingPool.from_url(url, **options)
        pool.connection_kwargs["decode_responses"] = False  # whatever the URL says: we decode
        return Redis(connection_pool=pool)

    return connect


class Link:
    """Commands and the two scripts, on the connections of one pool."""

    def __init__(self, connect: Connect, settings: ConnectionSettings) -> None:
        self.connect, self.settings = connect, settings
        self._client = connect(max_connections=settings.max_connections)
        self._database = int(self._client.connection_pool.connection_kwargs.get("db") or 0)
        folder = files(__package__ or "")
        self._ledger = self._client.register_script((folder / "ledger.lua").read_text())
        self._snapshot = self._client.register_script((folder / "snapshot.lua").read_text())
        self._checked = False

    def feed_of(self, project: str) -> str:
        """The channel of a project's feed."""
        return Keys(project, self._database).feed

    async def ledger(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """The answer of ledger.lua. Raises BusUnavailable."""
        if not self._checked:
            await self._check_version()
        return await translated(self._called(self._ledger, keys, arguments))

    async def snapshot(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """The answer of snapshot.lua. Raises BusUnavailable."""
        if not self._checked:
            await self._check_version()
        return await translated(self._called(self._snapshot, keys, arguments))

    async def _called(self, script: AsyncScript, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        pool = self._client.connection_pool
        if isinstance(pool, PackingPool):
            with suppress(NoScriptError):  # redis-py's way, which loads the script
                return await pool.ask("EVALSHA", script.sha, len(keys), *keys, *arguments)
        return await script(keys=keys, args=arguments)

    async def log_after(self, log: str, after: str, count: int) -> tuple[list[Any], bytes | None]:
        """Up to `count` entries after the id `after`, and the log's last id, as of one moment."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.xrange(log, min=f"({after}", max="+", count=count)
            pipe.xrevrange(log, count=1)
            entries, last = await translated(pipe.execute())
        return entries, last[0][0] if last else None

    async def heads(self, keys: Iterable[tuple[str, str]]) -> list[tuple[bytes | None, dict[bytes, bytes]]]:
        """For each pair of log and leases: the log's last id and the leases, all in one round trip."""
        async with self._client.pipeline(transaction=False) as pipe:
            for log, leases in keys:
                pipe.xrevrange(log, count=1)
                pipe.hgetall(leases)
            answers = await translated(pipe.execute())
        pairs = zip(answers[::2], answers[1::2], strict=True)
        return [(last[0][0] if last else None, leases) for last, leases in pairs]

    def has_left(self, feed: "FeedConnection") -> bool:
        """Whether commands go elsewhere than `feed` by now: the Sentinels have named another master."""
        pool = self._client.connection_pool
        return isinstance(pool, MasterPool) and pool.has_left(feed.connection)

    async def aclose(self) -> None:
        """Close the command connections."""
        await self._client.connection_pool.aclose()
        await self._client.aclose()

    async def _check_version(self) -> None:
        try:
            information = await translated(self._client.info("server"))
        except BusUnavailable as error:
            if not isinstance(error.__cause__, ResponseError):  # a server that does not tell
                raise
            information = {}
        version = str(information.get("redis_version", "7.0"))
        if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST_SERVER:
            raise NotConfigured(f"stagecast needs Redis 7.0 or newer, or Valkey; this server is Redis {version}")
        if "cluster" in {information.get("redis_mode"), information.get("server_mode")}:
            cluster: Any = await translated(self._client.execute_command("CLUSTER INFO"))  # type: ignore[no-untyped-call]
            if (cluster.get("cluster_size"), cluster.get("cluster_slots_assigned")) != ("1", "16384"):
                raise NotConfigured(NO_CLUSTER)
        self._checked = True


async def translated(call: Awaitable[_Answer]) -> _Answer:
    """The answer of `call`; whatever redis-py or the network raises becomes BusUnavailable.

    redis-py sends by `asyncio.wait_for`, which up to Python 3.11 swallows a cancellation that comes together with its
    end; here it comes up again.
    """
    task = asyncio.current_task()
    cancellations = task.cancelling() if task else 0
    try:
        answer = await call
    except (RedisError, OSError, TimeoutError) as error:
        raise BusUnavailable(f"Redis: {str(error) or type(error).__name__}") from error
    except RuntimeError as error:
        if UVLOOP_CLOSED not in str(error):
            raise
        raise BusUnavailable(f"Redis: {error}") from error
    if task and task.cancelling() > cancellations:
        raise asyncio.CancelledError
    return answer


class FeedConnection:
    """One plain connection in subscribed state."""

    def __init__(self, connect: Connect) -> None:
        self._client = connect(max_connections=1)
        self.connection: AbstractConnection = self._client.connection_pool.make_connection()  # type: ignore[no-untyped-call]

    async def open(self) -> None:
        """Raises BusUnavailable."""
        await translated(self.connection.connect())  # type: ignore[no-untyped-call]

    async def send(self, *command: str) -> None:
        """Send SUBSCRIBE, UNSUBSCRIBE or PING. Raises BusUnavailable."""
        try:
            await translated(self.connection.send_command(*command, check_health=False))
        except AttributeError as error:  # redis-py's, where the connection is closed while something is being sent
            raise BusUnavailable("Redis: the feed's connection was closed") from error

    async def receive(self) -> tuple[bytes, bytes, bytes]:
        """Kind (`message`, `subscribe`, `unsubscribe`, `pong`), channel and data. Raises BusUnavailable."""
        while True:
            reply = await translated(
                self.connection.read_response(
                    disable_decoding=True, timeout=math.inf, disconnect_on_error=False, push_request=True
                )
            )
            if isinstance(reply, list) and len(reply) >= 2:
                data = reply[2] if len(reply) > 2 else b""
                return reply[0], reply[1] or b"", data if isinstance(data, bytes) else b""
            if reply in {b"PONG", "PONG"}:
                return b"pong", b"", b""
            logger.debug("an unknown frame on the feed is dropped")

    async def close(self) -> None:
        """Never raises."""
        try:
            async with asyncio.timeout(1):
                await self.connection.disconnect(nowait=True)
                await self._client.connection_pool.disconnect()
        except (RedisError, OSError, TimeoutError):
            logger.debug("closing the feed's connection failed", exc_info=True)
