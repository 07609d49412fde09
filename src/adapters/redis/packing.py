"""A pool whose connections pack by hiredis, and a way to ask Redis one thing without redis-py's layers.

Both are for the one command that comes with every batch: redis-py's own asyncio client spends four times what Redis
needs on packing in Python, on a task for each write (up to Python 3.11), and on metrics that nobody reads. Connecting,
TLS, passwords, databases and Sentinels stay redis-py's. Where hiredis is not installed, redis-py packs as ever.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias, cast

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

try:
    import hiredis as _hiredis
except ImportError:  # the extra `redis` brings it
    _hiredis = None  # type: ignore[assignment]

Word: TypeAlias = bytes | str | int | float
Pack: TypeAlias = Callable[[tuple[Word, ...]], bytes]


class PackingPool(ConnectionPool):
    """A pool whose users wait for a free connection, first come, first served, `timeout` seconds at the most."""

    def __init__(self, *, max_connections: int = 50, timeout: float | None = 20.0, **options: Any) -> None:
        super().__init__(max_connections=max_connections, **options)
        self._timeout = timeout
        self._places = asyncio.Semaphore(max_connections)
        self._is_closed = False

    def make_connection(self) -> AbstractConnection:
        """A connection that packs by hiredis."""
        connection: AbstractConnection = super().make_connection()  # type: ignore[no-untyped-call]
        if _hiredis is not None:
            pack = cast(Pack, _hiredis.pack_command)  # its stub means a tuple of one
            connection.pack_command = _packing(pack)  # type: ignore[method-assign]
        return connection

    async def get_connection(self, *_: object, **__: object) -> AbstractConnection:
        """A connected connection. Raises a ConnectionError of redis-py's where none is free in time."""
        if self._places.locked():
            try:
                async with asyncio.timeout(self._timeout):
                    await self._places.acquire()
            except TimeoutError:
                raise RedisConnectionError("No connection available.") from None
        else:
            await self._places.acquire()
        connection: AbstractConnection = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connect it, if it is not connected or the server has closed it in the meantime."""
        if not connection.is_connected or await connection.can_read():
            await super().ensure_connection(connection)

    async def release(self, connection: AbstractConnection) -> None:
        """Take a connection back; close it where the pool was closed meanwhile."""
        self._in_use_connections.remove(connection)
        self._available_connections.append(connection)
        self._places.release()
        if self._is_closed:
            await connection.disconnect(nowait=True)

    async def aclose(self) -> None:
        """Close all connections for good, those that are in use as well."""
        self._is_closed = True
        await self.disconnect()

    async def ask(self, *words: Word) -> Any:
        """The answer to one command of bytes and numbers, undecoded. Raises redis-py's errors and OSError.

        Where the server has closed the connection it is asked again, as often as the connection's `retry` says: once.
        """
        connection = await self.get_connection()
        try:
            try:
                return await _asked(connection, words)
            except (RedisConnectionError, OSError):
                if self._is_closed or not connection.retry.get_retries():
                    raise
                await connection.connect()  # type: ignore[no-untyped-call]
                return await _asked(connection, words)
        finally:
            await self.release(connection)


async def _asked(connection: AbstractConnection, words: tuple[Word, ...]) -> Any:
    writer = connection._writer
    assert writer is not None
    try:
        writer.writelines(connection.pack_command(*words))  # first: all that follows is done while Redis is at it
        async with asyncio.timeout(connection.socket_timeout):
            await writer.drain()
            answer = await cast(Any, connection._parser).read_response(disable_decoding=True)
    except TimeoutError:
        await connection.disconnect(nowait=True)
        raise RedisTimeoutError("Timeout waiting for an answer") from None
    except BaseException:  # nobody will read the answer, and the next one must not take it for its own
        await connection.disconnect(nowait=True)
        raise
    if isinstance(answer, ResponseError):
        raise answer
    return answer


def _packing(pack: Pack) -> Callable[..., list[bytes]]:
    def packed(*words: Word) -> list[bytes]:
        """A command in Redis's protocol; its name may be of several words, as in redis-py's own."""
        name = words[0].encode() if isinstance(words[0], str) else cast(bytes, words[0])
        return [pack((*name.split(), *words[1:]))]

    return packed
