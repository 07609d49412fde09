"""What is told of a run that was lost to viewers whose connections do not last."""

import asyncio

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import EdgeSettings
from stagecast.entrypoints.testing.actors import Producer
from tests.sse.eventstream import types
from tests.sse.hubs import PROJECT, STAGE, Clock, hub_on, sit


@pytest.mark.parametrize("linger", [0, 5])
@pytest.mark.parametrize("others", ["", "other", "s"], ids=["nothing goes on", "another stage", "its own stage"])
async def test_who_comes_back_again_and_again_is_told_of_a_loss_too(
    hasty_bus: MemoryBus, clock: Clock, writer: Producer, others: str, linger: float
) -> None:
    """A viewer whose connections are shorter than a lease learns that its run is lost, and that there is no more."""
    other = Producer(Topic("p", others or "none"))
    async with hub_on(hasty_bus, EdgeSettings(heartbeat=0.02, linger=linger)) as hub:
        await writer.write(hasty_bus, "a")
        seat = await sit(hub)
        seat.take()
        after = seat.last
        seat.viewer.leave()
        hasty_bus.lose_everything()
        clock.now += 1
        async with asyncio.timeout(10):
            while True:
                if others == "s":
                    await other.send(hasty_bus, other.refreshed())  # news of the stage, and no run
                elif others:
                    await other.write(hasty_bus, "b")
                seat = await sit(hub, after=after)
                messages = seat.take()
                await asyncio.sleep(hasty_bus.limits.lease / 2)  # as long as its network lasts
                messages += seat.take()
                seat.viewer.leave()
                await asyncio.sleep(hasty_bus.limits.lease / 4)  # elsewhere
                assert types(messages)[:2] == ["connected", "reset"]
                after = Position.parse(seat.stream.last_event_id or str(after))  # as a browser does
                if len(messages) > 2:
                    break
        assert [message.get("reason") for message in messages[1:]] == ["epoch", "lost", None]
        assert types(messages)[-1] == "stream_end"


async def test_what_was_restored_and_ended_at_once_is_not_lost(
    hasty_bus: MemoryBus, clock: Clock, writer: Producer
) -> None:
    """A viewer of the project is shown the stage that came back, also where it ended before anybody looked."""
    async with hub_on(hasty_bus, EdgeSettings()) as hub:
        await writer.write(hasty_bus, "a")
        seat = await sit(hub, PROJECT)
        seat.take()
        hasty_bus.lose_everything()
        clock.now += 1
        await seat.until_type("reset")
        again = Producer(STAGE)
        await again.send(hasty_bus, *again.tokens("a"), again.done())
        messages = await seat.until_type("done")
        assert types(messages) == ["token", "done"]
        await asyncio.sleep(hasty_bus.limits.lease * 2)
        assert not seat.viewer.over
