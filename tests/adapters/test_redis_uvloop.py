"""The Redis transport on uvloop, which uvicorn runs on by default, and which has errors of its own."""

import asyncio
from collections.abc import Callable
from uuid import uuid4

import pytest
import uvloop

from stagecast.adapters.codec import JsonCodec
from stagecast.adapters.redis.bus import open_redis_bus
from stagecast.adapters.redis.link import translated
from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.topics import Topic
from tests.servers import RedisServer


@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
@pytest.mark.parametrize("iterations", range(3))
def test_a_torn_connection_costs_nothing(
    any_redis: RedisServer, loop_factory: Callable[[], asyncio.AbstractEventLoop], iterations: int
) -> None:
    """A command to a connection that was torn just now, or some of the loop's iterations ago, gets its answer."""

    async def torn() -> None:
        bus = open_redis_bus(any_redis.url, JsonCodec(), BusLimits())
        topic = Topic(uuid4().hex, "rewrite")
        assert await bus.cancel(topic, "none") is False
        (connection,) = bus._loops.here().link._client.connection_pool._available_connections
        assert connection._writer is not None
        connection._writer.transport.abort()
        for _ in range(iterations):
            await asyncio.sleep(0)
        assert await bus.cancel(topic, "none") is False
        await bus.aclose()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(torn())


async def test_what_uvloop_raises_for_a_torn_connection_is_an_outage() -> None:
    """Its RuntimeError is BusUnavailable, and no other RuntimeError is."""

    async def broken(text: str) -> None:
        raise RuntimeError(text)

    with pytest.raises(BusUnavailable, match="the handler is closed"):
        await translated(broken("unable to perform operation on <TCPTransport>; the handler is closed"))
    with pytest.raises(RuntimeError, match="something else"):
        await translated(broken("something else"))
