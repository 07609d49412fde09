"""What a publisher gathers before it sends, what it sends at once, and when callers wake the delivering task."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest

from stagecast.domain.events import TokenEmitted
from stagecast.domain.outbox import OutboxLimits
from stagecast.domain.publishing import StagePublisher
from tests.domain.flaky import FlakyBus, bus, publishing, stage
from tests.waiting import eventually

__all__ = ["bus"]

HOUR = 3600.0


def limits(linger: float = HOUR, **others: int) -> OutboxLimits:
    with attrs.validators.disabled():  # so that a test which waits for nobody would wait for ever
        return OutboxLimits(linger=linger, **others)


@asynccontextmanager
async def lingering(bus: FlakyBus, **others: int) -> AsyncIterator[StagePublisher]:
    """A publisher that has sent its first token, and gathers for an hour what comes now."""
    async with publishing(bus, limits=limits(**others)) as publisher:
        publisher.publish_token("a")
        await eventually(lambda: contents(bus) == [["a"]])
        yield publisher


def contents(bus: FlakyBus) -> list[list[str]]:
    """Each batch with events: the tokens' contents, the types of others."""
    batches = [
        [event.content if isinstance(event, TokenEmitted) else event.type for event in batch.events]
        for batch in bus.batches
    ]
    return [one for one in batches if one]


async def settle() -> None:
    """Let the loop do all that it has to do."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_what_follows_soon_goes_together(bus: FlakyBus) -> None:
    """The first token goes at once; progress and tokens that come within the linger are one batch, at its end."""
    async with publishing(bus, limits=limits(0.2)) as publisher:
        publisher.publish_token("a")
        await eventually(lambda: contents(bus) == [["a"]])
        for number in range(5):
            publisher.publish_token(str(number))
            await settle()
        publisher.publish_progress(1, 2)
        await eventually(lambda: len(contents(bus)) > 1)
        assert contents(bus) == [["a"], ["0", "1", "2", "3", "4", "progress"]]
        assert (await stage(bus)).text == "a01234"


async def test_after_a_lull_the_first_goes_at_once_again(bus: FlakyBus) -> None:
    """And what follows it soon lingers as before."""
    async with publishing(bus, limits=limits(0.2)) as publisher:
        publisher.publish_token("a")
        await eventually(lambda: contents(bus) == [["a"]])
        await eventually(lambda: not publisher._producer._gathers)
        for content in "bcd":
            publisher.publish_token(content)
            await settle()
        await eventually(lambda: len(contents(bus)) > 2)
        assert contents(bus) == [["a"], ["b"], ["c", "d"]]


async def test_tokens_linger(bus: FlakyBus) -> None:
    """Without a reason to hurry nothing goes before the end of the linger, also where the loop is idle."""
    async with lingering(bus) as publisher:
        for number in range(5):
            publisher.publish_token(str(number))
            publisher.publish_item_completed("image", number)
            await settle()
        assert contents(bus) == [["a"]]


@pytest.mark.parametrize(
    "turn",
    [
        lambda publisher: publisher.publish_done(),
        lambda publisher: publisher.publish_error("boom"),
        lambda publisher: publisher.publish_stage_update("processing"),
        lambda publisher: publisher.publish_stage_update("completed"),
        lambda publisher: publisher.publish_pipeline_done(),
        lambda publisher: publisher.publish_pipeline_error("boom"),
        lambda publisher: publisher.publish_token("anew", "anew"),
        lambda publisher: publisher.close(),
    ],
    ids=["done", "error", "status", "final status", "pipeline_done", "pipeline_error", "text begun anew", "close"],
)
async def test_beginnings_and_ends_go_at_once(bus: FlakyBus, turn: Callable[[StagePublisher], Any]) -> None:
    """They take along what has gathered before them."""
    async with lingering(bus) as publisher:
        publisher.publish_progress(1, 2)
        await settle()
        assert contents(bus) == [["a"]]
        turn(publisher)
        await eventually(lambda: len(contents(bus)) == 2)
        assert contents(bus)[1][0] == "progress"


async def test_a_flush_waits_for_no_linger(bus: FlakyBus) -> None:
    """Again and again."""
    async with lingering(bus) as publisher:
        for number in range(3):
            publisher.publish_token(str(number))
            await settle()
            assert await publisher.flush(5)
            assert contents(bus)[-1] == [str(number)]


async def test_a_text_that_is_taken_back_leaves_nothing_to_do(bus: FlakyBus) -> None:
    """The beginning that was to go at once is gone with its text: the loop is free, and what comes is sent."""
    async with lingering(bus) as publisher:
        publisher.publish_token("b", "b")
        publisher.publish_token("", "")
        await settle()
        assert await publisher.flush(5)
        publisher.publish_token("c")
        assert await publisher.flush(5)
        assert contents(bus) == [["a"], ["c"]]
        assert (await stage(bus)).text == publisher.text == "c"


async def test_a_full_batch_goes_at_once(bus: FlakyBus) -> None:
    """A burst is as fast as the bus: only what does not fill a batch lingers."""
    async with lingering(bus, batch_events=10) as publisher:
        for _ in range(35):
            publisher.publish_token("b")
        await eventually(lambda: len(contents(bus)) == 4)
        await settle()
        assert contents(bus) == [["a"], *[["b"] * 10] * 3]


async def test_what_the_bus_asks_for_again_does_not_linger(bus: FlakyBus) -> None:
    """After a loss the text is restored at once, and what had gathered goes behind it."""
    async with lingering(bus) as publisher:
        await publisher.flush(5)
        bus.bus.lose_everything()
        publisher.publish_token("b")
        assert await publisher.flush(5)
        assert (await stage(bus)).text == publisher.text == "ab"


async def test_callers_wake_nobody_in_vain(bus: FlakyBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waking the loop costs a caller more than the rest: once for what goes at once, never for what gathers."""
    loop, woken = asyncio.get_running_loop(), list[object]()
    wake = loop.call_soon_threadsafe

    def counted(callback: Callable[..., object], *arguments: Any, **more: Any) -> asyncio.Handle:
        woken.append(callback)
        return wake(callback, *arguments, **more)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    async with lingering(bus) as publisher:
        for _ in range(100):
            publisher.publish_token("b")
            await settle()
        assert len(woken) <= 2, "one for the first token, one that finds out that there is something to gather"
        publisher.publish_done()
        publisher.publish_progress(1, 2)
        assert len(woken) <= 3


@pytest.mark.parametrize("linger", [-0.1, 0.6, float("nan")])
def test_a_linger_that_would_look_like_an_outage_is_refused(linger: float) -> None:
    """Between 0 and half a second."""
    with pytest.raises(ValueError, match="linger"):
        OutboxLimits(linger=linger)
