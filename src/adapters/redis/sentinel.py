"""Redis behind Sentinels: their URL, and a pool whose connections lead to the master that they name. Knows no commands.

redis-py asks the Sentinels when it connects, so a connection that works stays where it is. After a failover the old
master may live on, for ten seconds or more, as one that takes writes which are lost later. So the pool asks again while
it is used, beside the commands and not before them: Sentinels that are away hold up nobody who is connected.
"""

import asyncio
import logging
from typing import Any
from urllib.parse import urlsplit

from attrs import frozen
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from .packing import PackingPool

logger = logging.getLogger("stagecast.redis")

SCHEMES = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
PORT = 26379
AGAIN = 1.0
"""Seconds, at the least, between two questions to the Sentinels by a pool that is connected."""
_FORM = "redis+sentinel://user:password@host1:port1,host2:port2/name-of-the-master/database"
_PREFIX = "sentinel_"
_OPTIONS = {"username": str, "password": str, "socket_timeout": float, "socket_connect_timeout": float}
"""What the URL's query may say of the connections to Sentinels, with the prefix."""


@frozen
class Sentinels:
    """What a URL names."""

    hosts: list[tuple[str, int]]
    service: str
    options: dict[str, Any]
    """Of connections to Redis."""
    sentinel_options: dict[str, Any]
    """Of connections to the Sentinels."""

    def pool(self, *, connect_timeout: float, **defaults: Any) -> "MasterPool":
        """A pool of connections to the master. Its Sentinels are asked one after the other, within `connect_timeout`.

        No connection is made again by itself, for it would be made to where it led before.
        """
        once = Retry(NoBackoff(), 0)
        each = connect_timeout / len(self.hosts)
        asked = {"socket_connect_timeout": each, "socket_timeout": each, **self.sentinel_options}
        manager = Sentinel(self.hosts, sentinel_kwargs={**asked, "protocol": 2, "retry": once})  # type: ignore[no-untyped-call]
        options = {"socket_connect_timeout": connect_timeout, **defaults, **self.options, "retry": once}
        return MasterPool(self.service, manager, **options)


def is_sentinel_url(url: str) -> bool:
    """Whether `url` names Sentinels."""
    return urlsplit(url).scheme in SCHEMES


def parse_sentinel_url(url: str) -> Sentinels:
    """Raises ValueError, whose message has nothing of the URL, for a malformed one."""
    parts = urlsplit(url)
    user, at, netloc = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    hosts = [_host(one) for one in netloc.split(",")]
    if not service or not (database.isdigit() or not database) or parts.fragment:
        raise ValueError(f"the URL of Sentinels has the form {_FORM}")
    options: dict[str, Any] = dict(parse_url(f"{SCHEMES[parts.scheme]}://{user}{at}host/{database}?{parts.query}"))
    for name in ("host", "port", "connection_class"):
        options.pop(name, None)
    options["ssl"] = parts.scheme == "rediss+sentinel"
    own: dict[str, Any] = {}
    for name, read in _OPTIONS.items():
        if (value := options.pop(_PREFIX + name, None)) is not None:
            own[name] = read(value)
    shared = {name: value for name, value in options.items() if name.startswith("ssl")}
    return Sentinels(hosts, service, options, {**shared, **own})


def _host(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise ValueError(f"the URL of Sentinels has the form {_FORM}")
    return host, port or PORT


class MasterPool(SentinelConnectionPool, PackingPool):
    """Connections to the master, as the Sentinels name it now; closing it closes those to the Sentinels too."""

    sentinel_manager: Sentinel
    master_address: tuple[str, int] | None

    def __init__(self, service: str, manager: Sentinel, **options: Any) -> None:
        super().__init__(service, manager, **options)  # type: ignore[no-untyped-call]
        self._asked = 0.0
        self._asking: asyncio.Task[None] | None = None

    async def get_master_address(self) -> tuple[str, int]:
        """Raises a ConnectionError of redis-py's where no Sentinel that answers knows a master that is up."""
        self._asked = asyncio.get_running_loop().time()
        try:
            address: tuple[str, int] = await super().get_master_address()  # type: ignore[no-untyped-call]
        except MasterNotFoundError as error:
            logger.debug("%s", error)
            number = len(self.sentinel_manager.sentinels)
            raise MasterNotFoundError(f"none of {number} Sentinels names a master {self.service_name!r}") from None
        return address

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connect, to another master than before if need be, and see to it that the Sentinels are asked again."""
        if connection.is_connected and self.has_left(connection):
            await connection.disconnect()
        await super().ensure_connection(connection)
        is_due = asyncio.get_running_loop().time() - self._asked >= AGAIN
        if is_due and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._ask())

    async def release(self, connection: AbstractConnection) -> None:
        """Take a connection back; one that was in use while the master changed is closed."""
        if self.has_left(connection):
            await connection.disconnect(nowait=True)
        await super().release(connection)

    def has_left(self, connection: AbstractConnection) -> bool:
        """Whether the master is another one than `connection` leads to."""
        address = (getattr(connection, "host", None), getattr(connection, "port", None))
        return self.master_address is not None and self.master_address != address

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """With `inuse_connections` all are closed, also those to the Sentinels."""
        if inuse_connections:
            if self._asking is not None:
                self._asking.cancel()
                await asyncio.gather(self._asking, return_exceptions=True)
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.aclose()
        await super().disconnect(inuse_connections)

    async def _ask(self) -> None:
        before = self.master_address
        try:
            address = await self.get_master_address()
        except Exception as error:  # whatever it is, nobody has asked this task for an answer
            logger.debug("the Sentinels do not answer: %s", error)
        else:
            if before not in {None, address}:
                logger.warning("the master is another one: %s:%s", *address)
