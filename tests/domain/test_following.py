"""Following a topic: what a viewer is shown, in which order, until which end."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from attrs import evolve

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits, Opening, Published, Snapshot
from stagecast.domain.events import (
    Event,
    PipelineCompleted,
    StageFailed,
    StageUpdated,
    TokenEmitted,
)
from stagecast.domain.following import Follower, Shown
from stagecast.domain.positions import Position
from stagecast.domain.producing import TaskRun
from stagecast.domain.publishing import StagePublisher
from stagecast.domain.topics import Topic
from tests.domain.viewing import CODEC, PATIENCE, PROJECT, STAGE, done, make, opened, token, told, viewed


class Stream:
    """A subscription that delivers what the test says, when it says so."""

    def __init__(self) -> None:
        self.deliveries = asyncio.Queue[Snapshot | Published | None]()
        self.count = 0

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Snapshot | Published:
        delivery = await self.deliveries.get()
        if delivery is None:
            raise StopAsyncIteration
        return delivery

    def publish(self, *events: Event) -> None:
        for event in events:
            self.deliveries.put_nowait(Published(position=Position(7, self.count), event=event))
            self.count += 1

    def snapshot(self, *events: Event, reset: str | None = None) -> None:
        """The state after `events` alone."""
        view, _ = viewed(*events)
        position = Position(7, self.count) if events else None
        self.deliveries.put_nowait(
            Snapshot(position=position, stages=view.stages, reset=reset, time=time.time())  # type: ignore[arg-type]
        )
        self.count += 1

    def follower(self, topic: Topic = STAGE, *, patience: float = PATIENCE) -> Follower:
        return Follower(self, topic, patience=patience)  # type: ignore[arg-type]


async def heard(follower: Follower, count: int | None = None) -> list[Shown]:
    """So many messages, or all until the end."""
    shown = list[Shown]()
    async with asyncio.timeout(10):
        while count is None or len(shown) < count:
            try:
                shown.append(await anext(follower))
            except StopAsyncIteration:
                assert count is None, f"ended after {told(shown)}"
                break
    return shown


class TestFollower:
    """One reader of one topic."""

    async def test_it_ends_with_the_run(self) -> None:
        """The last message is the end; then the iteration is over, for good."""
        stream = Stream()
        stream.snapshot()
        stream.publish(opened("a"), token("x", 0), done(), token("never", 1))
        follower = stream.follower()
        assert told(await heard(follower)) == ["x", "done"]
        assert follower.is_over
        assert await heard(follower) == []

    async def test_it_ends_with_a_failure(self) -> None:
        """An error is an end too."""
        stream = Stream()
        stream.snapshot()
        stream.publish(opened("a"), make(StageFailed, error="x"))
        assert told(await heard(stream.follower())) == ["error"]

    async def test_it_ends_with_a_stage_that_is_skipped(self) -> None:
        """No spinner on `skipped`."""
        stream = Stream()
        stream.snapshot()
        stream.publish(make(StageUpdated, status="skipped", progress=100))
        assert told(await heard(stream.follower())) == ["status:skipped"]

    async def test_of_a_project_it_ends_with_the_pipeline(self) -> None:
        """A failed stage is news there, not the end."""
        stream = Stream()
        stream.snapshot()
        stream.publish(opened("a"), make(StageFailed, error="x"), make(PipelineCompleted, stage="pipeline"))
        assert told(await heard(stream.follower(PROJECT))) == ["error", "pipeline_done"]

    async def test_it_shows_a_run_that_has_just_ended(self) -> None:
        """A `done` that was just missed is shown, and ends the stream."""
        stream = Stream()
        stream.snapshot(opened("a"), token("x", 0), done())
        stream.deliveries.put_nowait(None)
        snapshot = stream.deliveries.get_nowait()
        assert isinstance(snapshot, Snapshot)
        ended = evolve(snapshot.stages["rewrite"], ended_at=snapshot.time - 1.0)
        stream.deliveries = asyncio.Queue()
        stream.deliveries.put_nowait(evolve(snapshot, stages={"rewrite": ended}))
        assert told(await heard(stream.follower())) == ["x", "done"]

    async def test_it_waits_past_an_old_end_for_the_next_run(self) -> None:
        """ "Connect, then regenerate" does not end on yesterday's result."""
        stream = Stream()
        stream.snapshot(opened("a"), token("old", 0), done())
        snapshot = stream.deliveries.get_nowait()
        assert isinstance(snapshot, Snapshot)
        ended = evolve(snapshot.stages["rewrite"], ended_at=snapshot.time - 1000.0)
        stream.deliveries.put_nowait(evolve(snapshot, stages={"rewrite": ended}))
        stream.publish(opened("b"), token("new", 0), done())
        assert told(await heard(stream.follower())) == ["reset:run", "new", "done"]

    async def test_a_reset_is_told_with_its_cause_and_the_state(self) -> None:
        """Whatever its reason, what follows shows all there is."""
        for reason in ("truncated", "epoch"):
            stream = Stream()
            stream.snapshot()
            stream.publish(opened("a"), token("x", 0))
            stream.snapshot(opened("a"), token("x and more", 0), reset=reason)
            stream.publish(done())
            assert told(await heard(stream.follower())) == ["x", f"reset:{reason}", "x and more", "done"]

    async def test_a_reset_whose_state_has_ended_ends_it(self) -> None:
        """The missed end is in the snapshot."""
        stream = Stream()
        stream.snapshot()
        stream.publish(opened("a"))
        stream.snapshot(opened("a"), token("x", 0), done(), reset="truncated")
        assert told(await heard(stream.follower())) == ["reset:truncated", "x", "done"]

    async def test_a_run_that_nobody_restores_is_lost(self) -> None:
        """After a loss it waits for a lease time, says so, and ends."""
        stream = Stream()
        stream.snapshot()
        stream.publish(opened("a"), token("x", 0))
        stream.snapshot(reset="epoch")
        shown = await heard(stream.follower(patience=0.05))
        assert told(shown) == ["x", "reset:epoch", "reset:lost"]

    async def test_a_run_that_is_restored_is_not_lost(self) -> None:
        """As soon as its producer speaks the wait is over, however long the rest takes."""
        stream = Stream()
        follower = stream.follower(patience=0.05)
        stream.snapshot()
        stream.publish(opened("a"), token("x", 0))
        stream.snapshot(reset="epoch")
        assert told(await heard(follower, 2)) == ["x", "reset:epoch"]
        stream.count = 100
        stream.publish(opened("a"), token("x", 0, snapshot=True))
        assert told(await heard(follower, 1)) == ["x"]
        waiting = asyncio.ensure_future(heard(follower))
        done_waiting, _ = await asyncio.wait({waiting}, timeout=0.15)
        assert not done_waiting
        stream.publish(done())
        assert told(await waiting) == ["done"]

    async def test_a_loss_of_nothing_is_waited_out(self) -> None:
        """A reader that waits for a run to begin goes on waiting after a loss."""
        stream = Stream()
        follower = stream.follower(patience=0.01)
        stream.snapshot()
        stream.snapshot(reset="epoch")
        assert told(await heard(follower, 1)) == ["reset:epoch"]
        waiting = asyncio.ensure_future(heard(follower))
        await asyncio.wait({waiting}, timeout=0.05)
        stream.publish(opened("a"), token("x", 0), done())
        assert told(await waiting) == ["x", "done"]

    async def test_it_ends_with_its_subscription(self) -> None:
        """A bus that is closed ends it."""
        stream = Stream()
        stream.snapshot(opened("a"), token("x", 0))
        stream.deliveries.put_nowait(None)
        assert told(await heard(stream.follower())) == ["x"]

    async def test_cancelling_a_wait_loses_nothing(self) -> None:
        """A timeout of the caller's own leaves the follower usable."""
        stream = Stream()
        follower = stream.follower()
        stream.snapshot()
        for number in range(20):
            waiting = asyncio.ensure_future(anext(follower))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait({waiting})
            assert waiting.cancelled()
        stream.publish(opened("a"), token("x", 0), done())
        assert told(await heard(follower)) == ["x", "done"]


@asynccontextmanager
async def followed(bus: MemoryBus, topic: Topic) -> AsyncIterator[Follower]:
    async with bus.subscribe(topic) as subscription:
        yield Follower(subscription, topic, patience=bus.limits.lease)


class TestWithABus:
    """From a publisher to a viewer."""

    async def test_a_stage_from_end_to_end(self) -> None:
        """What was published is what is shown, in order."""
        bus = MemoryBus(CODEC)
        async with followed(bus, STAGE) as follower:
            publisher = StagePublisher(bus, STAGE, CODEC)
            publisher.publish_stage_update("processing", 0)
            for piece in ("这", "是", "😀"):
                publisher.publish_token(piece)
            publisher.publish_done(publisher.text)
            publisher.close()
            await publisher.run()
            shown = await heard(follower)
        assert told(shown) == ["status:processing", "这", "是", "😀", "done"]
        assert [one.text for one in shown[1:4]] == ["这", "这是", "这是😀"]

    async def test_a_retry_is_shown_as_one(self) -> None:
        """A second attempt resets the text and ends where it ends; the first one's `retrying` is no end."""
        bus = MemoryBus(CODEC)
        async with followed(bus, STAGE) as follower:
            for attempt in (1, 2):
                publisher = StagePublisher(bus, STAGE, CODEC, task=TaskRun(run="run", task="task"))
                publisher.publish_token(f"attempt {attempt}")
                if attempt == 1:
                    publisher.publish_stage_update("retrying", retry_count=1)
                else:
                    publisher.publish_done(publisher.text)
                publisher.close()
                await publisher.run()
            shown = await heard(follower)
        assert told(shown) == ["attempt 1", "status:retrying", "reset:run", "attempt 2", "done"]

    async def test_a_loss_in_mid_stream_is_restored(self) -> None:
        """A living publisher brings everything back, and the viewer sees the whole text."""
        bus = MemoryBus(CODEC)
        async with followed(bus, STAGE) as follower:
            publisher = StagePublisher(bus, STAGE, CODEC)
            delivering = asyncio.create_task(publisher.run())
            publisher.publish_token("before ")
            assert told(await heard(follower, 1)) == ["before "]
            bus.lose_everything()
            publisher.publish_token("after")
            publisher.publish_done(publisher.text)
            publisher.close()
            await delivering
            shown = await heard(follower)
        assert told(shown)[0] == "reset:epoch"
        assert told(shown)[-1] == "done"
        text = ""
        for one in shown:
            if isinstance(one.content, TokenEmitted):
                text = one.content.content if one.content.offset == 0 else text + one.content.content
        assert text == "before after"

    async def test_a_dead_publisher_ends_the_wait(self) -> None:
        """Its lease lapses, and the viewer is told."""
        bus = MemoryBus(CODEC, BusLimits(lease=0.2))
        async with followed(bus, STAGE) as follower:
            await bus.open_run(Opening(topic=STAGE, run="run", task="task", nonce="n", producer="dead"))
            shown = await heard(follower)
        assert [type(one.content) for one in shown] == [StageFailed]

    @pytest.mark.parametrize("topic", [STAGE, PROJECT])
    async def test_a_bus_that_is_closed_ends_it(self, topic: Topic) -> None:
        """Nobody waits for a bus that is gone."""
        bus = MemoryBus(CODEC)
        async with followed(bus, topic) as follower:
            waiting = asyncio.ensure_future(heard(follower))
            await asyncio.sleep(0)
            await bus.aclose()
            assert await waiting == []
