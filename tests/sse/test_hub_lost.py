"""What is told of a run that was lost to viewers whose connections do not last."""

import asyncio

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import EdgeSettings
from stagecast.entrypoints.testing.actors import Producer
from stagecast.entrypoints.wiring import CODEC
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
        back = seat.back
        seat.viewer.leave()
        hasty_bus.lose_everything()
        clock.now += 1
        async with asyncio.timeout(10):
            while True:
                if others == "s":
                    await other.send(hasty_bus, other.refreshed())  # news of the stage, and no run
                elif others:
                    await other.write(hasty_bus, "b")
                seat = await sit(hub, **back)
                messages = seat.take()
                await asyncio.sleep(hasty_bus.limits.lease / 2)  # as long as its network lasts
                messages += seat.take()
                seat.viewer.leave()
                await asyncio.sleep(hasty_bus.limits.lease / 4)  # elsewhere
                assert types(messages)[:2] == ["connected", "reset"]
                back = seat.back if seat.stream.last_event_id else back  # as a browser does
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


async def test_who_was_told_of_a_loss_is_shown_all_where_nothing_is_lost(
    hasty_bus: MemoryBus, writer: Producer
) -> None:
    """It has cleared its text; another process, which has not lost what it had seen, must not go on where it was."""
    async with hub_on(hasty_bus) as ahead:
        await writer.write(hasty_bus, "a")
        seen = await sit(ahead, delta=True)
        assert seen.take()[-1]["content"] == "a"
        async with hub_on(MemoryBus(CODEC, hasty_bus.limits)) as emptied:
            told = await sit(emptied, delta=True, after=seen.last)
            assert [message.get("reason") for message in told.take()] == [None, "epoch"]
        assert told.back == {"after": seen.last, "is_cleared": True}
        await writer.write(hasty_bus, "b")
        await seen.until_text("b")
        back = await sit(ahead, delta=True, **told.back)
        messages = back.take()
        assert [message.get("reason") or message.get("content") for message in messages] == [None, "epoch", "ab"]
        assert back.last == seen.last
