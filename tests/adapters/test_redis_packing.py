"""Commands are packed by hiredis to the very bytes that redis-py would send."""

import pytest
from redis.asyncio.connection import Connection

from stagecast.adapters.redis.link import connect_to
from stagecast.adapters.redis.packing import PackingPool, Word


@pytest.mark.parametrize(
    "words",
    [
        ("PING",),
        ("CLIENT SETINFO", "LIB-NAME", "redis-py"),
        (b"CLIENT SETNAME", b"stagecast"),
        ("EVALSHA", "a" * 40, 1, "stagecast:1:{p}:log", b'{"v":1}\t{"content":"\\r\\n"}', "字😀\r\n", 0, -7, 2**63 - 1),
        ("SET", "empty", ""),
        ("SET", "large", b"x" * 100_000),
    ],
    ids=range(6),
)
def test_what_is_sent_is_what_redis_py_would_send(words: tuple[Word, ...]) -> None:
    """Texts in UTF-8, numbers, bytes as they are, names of several words."""
    connection = PackingPool().make_connection()
    assert b"".join(connection.pack_command(*words)) == b"".join(Connection().pack_command(*words))


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1/0", "rediss://127.0.0.1/0", "unix:///nowhere", "redis+sentinel://127.0.0.1/name/0"]
)
def test_every_kind_of_connection_packs_so(url: str) -> None:
    """Whatever the URL names."""
    connection = connect_to(url)(max_connections=1).connection_pool.make_connection()  # type: ignore[no-untyped-call]
    assert len(connection.pack_command("EVALSHA", *["x" * 10_000] * 3)) == 1
