"""The Redis transport on uvloop, which uvicorn runs on by default, and which has errors of its own."""

import asyncio
from uuid import uuid4

import pytest
import uvloop

from stagecast.adapters.codec import JsonCodec
from stagecast.adapters.redis.bus import open_redis_bus
from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.topics import Topic
from tests.servers import RedisServer


def test_a_torn_connection_is_an_outage_on_uvloop_too(any_redis: RedisServer) -> None:
    """A write to a connection that was just torn is BusUnavailable, after which the bus works again; nothing else."""

    async def torn() -> None:
        bus = open_redis_bus(any_redis.url, JsonCodec(), BusLimits())
        topic = Topic(uuid4().hex, "rewrite")
        assert await bus.cancel(topic, "none") is False
        (connection,) = bus._local().link._client.connection_pool._available_connections
        assert connection._writer is not None
        connection._writer.transport.abort()
        with pytest.raises(BusUnavailable, match="the handler is closed"):
            await bus.cancel(topic, "none")
        assert await bus.cancel(topic, "none") is False
        await bus.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(torn())
