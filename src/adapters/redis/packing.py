"""Connections whose commands hiredis packs. redis-py's own asyncio ones pack in Python: half of all that a token costs.

Knows no commands. Where hiredis is not installed, redis-py packs as ever.
"""

from collections.abc import Callable
from typing import TypeAlias, cast

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection

try:
    import hiredis as _hiredis
except ImportError:  # the extra `redis` brings it
    _hiredis = None  # type: ignore[assignment]

Word: TypeAlias = bytes | str | int | float
Pack: TypeAlias = Callable[[tuple[Word, ...]], bytes]


class PackingPool(BlockingConnectionPool):
    """A pool that waits for a free connection."""

    def make_connection(self) -> AbstractConnection:
        """A connection that packs by hiredis."""
        connection: AbstractConnection = super().make_connection()  # type: ignore[no-untyped-call]
        if _hiredis is not None:
            pack = cast(Pack, _hiredis.pack_command)  # its stub means a tuple of one
            connection.pack_command = _packing(pack)  # type: ignore[method-assign]
        return connection


def _packing(pack: Pack) -> Callable[..., list[bytes]]:
    def packed(*words: Word) -> list[bytes]:
        """A command in Redis's protocol; its name may be of several words, as in redis-py's own."""
        name = words[0].encode() if isinstance(words[0], str) else cast(bytes, words[0])
        return [pack((*name.split(), *words[1:]))]

    return packed
