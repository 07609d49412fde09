"""What a test suite does to its client: it cancels a stream that waits, uses the client again, and closes the loop."""

import asyncio
import threading
from contextlib import suppress

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.adapters.redis.bus import open_redis_bus
from stagecast.domain.bus import BusLimits, MessageBus
from stagecast.entrypoints.testing.actors import CODEC, STAGE, Producer, reading, state
from tests.servers import RedisServer

SECONDS = 30.0
MOMENTS = [0, 1, 2, 3, 5, 8, 13, None]
"""After how many turns of the loop the stream is cancelled: while it is being made, too. None: once it waits."""


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_a_cancelled_stream_keeps_nobody_from_going_on_or_ending(kind: str, any_redis: RedisServer) -> None:
    """R147: a stream is cancelled at any moment, the client is used again, and its loop closes; nothing hangs."""

    def suite() -> None:
        for moment in MOMENTS:
            bus: MessageBus = (
                MemoryBus(CODEC) if kind == "memory" else open_redis_bus(any_redis.url, CODEC, BusLimits())
            )
            asyncio.run(_cancel_and_go_on(bus, moment))
        finished.set()

    finished = threading.Event()
    thread = threading.Thread(target=suite, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert finished.is_set()


async def _cancel_and_go_on(bus: MessageBus, moment: int | None) -> None:
    producer, waits = Producer(), asyncio.Event()

    async def wait() -> None:
        async with bus.subscribe(STAGE) as subscription:
            await anext(aiter(subscription))
            waits.set()
            await anext(aiter(subscription))

    stream = asyncio.create_task(wait())
    if moment is None:
        await waits.wait()
        await asyncio.sleep(0)
    for _ in range(moment or 0):
        await asyncio.sleep(0)
    stream.cancel()
    with suppress(asyncio.CancelledError):
        await stream
    assert stream.cancelled()
    async with reading(bus) as reader:
        await reader.until_count(1)
        await producer.write(bus, "again")
        await reader.until(lambda: reader.text.endswith("again"))
        await producer.send(bus, producer.done(), release=True)
        await reader.until_ended()
    assert (await state(bus)).text == "again"
    await bus.aclose()
