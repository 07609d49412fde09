"""Used tickets in Redis, so that once means once for all server processes. One connection an event loop."""

import asyncio
from weakref import WeakKeyDictionary

from redis.asyncio import Redis

from stagecast.domain.errors import NotConfigured

from .link import DEFAULTS, Connect, connect_to, translated
from .settings import ConnectionSettings
from .state import SCHEMA


class RedisUsedTickets:
    """`stagecast.domain.access.UsedTickets`. Connects at its first use.

    A command that was sent, and whose answer was lost, is sent again and then finds its own mark: such a ticket counts
    as used.
    """

    scope = b""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Redis] = WeakKeyDictionary()

    async def spend(self, identifier: str, seconds: float) -> bool:
        """Raises BusUnavailable."""
        loop = asyncio.get_running_loop()
        if (client := self._clients.get(loop)) is None:
            client = self._clients[loop] = self._connect(max_connections=1)
        key = f"stagecast:{SCHEMA}:ticket:{identifier}"
        return bool(await translated(client.set(key, b"", nx=True, px=max(1, int(seconds * 1000)))))

    async def aclose(self) -> None:
        if (client := self._clients.pop(asyncio.get_running_loop(), None)) is not None:
            await client.aclose()
            await client.connection_pool.disconnect()


def open_used_tickets(url: str, settings: ConnectionSettings = DEFAULTS) -> RedisUsedTickets:
    """For the server of a bus' URL, which the bus has read before. Raises NotConfigured for what is none."""
    try:
        connect = connect_to(url, settings)
        connect(max_connections=1)
    except (TypeError, ValueError):
        raise NotConfigured("not the URL of a Redis") from None  # its cause can hold a part of a password
    return RedisUsedTickets(connect)
