"""What the feed does not bring, brings twice or in another order: a subscription notices by the positions alone.

The events are progress, not tokens: a hole among those is noticed by nothing that comes after.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from stagecast.adapters.codec import JsonCodec
from stagecast.adapters.redis.bus import open_redis_bus
from stagecast.adapters.transport.subscription import LIVE, LogSubscription
from stagecast.domain.bus import BusLimits, Delivery, Published, Snapshot
from stagecast.domain.events import ProgressReported
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic
from stagecast.entrypoints.testing.actors import Producer
from tests.servers import RedisServer

CODEC = JsonCodec()
TOPIC = Topic("123", "rewrite")
QUIET = BusLimits(lease=60)
"""The log's end is looked at every two seconds: what is noticed sooner was noticed by its position."""
News = tuple[Position, str, list[bytes]]


class Scene:
    """A subscription whose news are held back; the test hands them on, or does not."""

    def __init__(self, subscription: LogSubscription, publish: Callable[[int], object]) -> None:
        self.subscription = subscription
        self.publish = publish
        self.news: asyncio.Queue[News] = asyncio.Queue()
        self._offer = subscription.offer
        subscription.offer = lambda *one: self.news.put_nowait(one)  # type: ignore[method-assign]
        subscription.compare = lambda end: None  # type: ignore[method-assign]  # the look-out tells nothing here

    async def published(self, *numbers: int) -> list[News]:
        """Publish progress of each number, in a batch of its own; what the feed brings of it."""
        found = []
        for number in numbers:
            await self.publish(number)  # type: ignore[misc]
            found.append(await asyncio.wait_for(self.news.get(), 5))
        return found

    def offer(self, *news: News) -> None:
        """Let the subscription have this of the feed."""
        for one in news:
            self._offer(*one)

    async def delivered(self, count: int) -> list[Delivery]:
        """The next deliveries."""
        return [await asyncio.wait_for(anext(self.subscription), 5) for _ in range(count)]


@asynccontextmanager
async def scene(redis: RedisServer, limits: BusLimits = QUIET, *, begun: bool = True) -> AsyncIterator[Scene]:
    """A project with a run that has begun, or none."""
    bus, producer = open_redis_bus(redis.url, CODEC, limits), Producer(TOPIC)
    try:
        if begun:
            await producer.send(bus, producer.update())
        async with bus.subscribe(TOPIC) as subscription:
            assert isinstance(await anext(subscription), Snapshot)
            subscription._behind = False  # its confirmation has asked for a look at the log, where nothing is new

            async def publish(number: int) -> None:
                await producer.send(bus, progress(number))

            yield Scene(subscription, publish)
    finally:
        await bus.aclose()


def progress(number: int) -> ProgressReported:
    return ProgressReported(
        project=TOPIC.project, stage=TOPIC.one_stage, timestamp=1.0, current=number, total=100, progress=number
    )


def numbers(deliveries: Sequence[Delivery]) -> list[object]:
    """What each shows: the progress; a snapshot the reason of its reset."""
    return [
        one.event.current
        if isinstance(one, Published) and isinstance(one.event, ProgressReported)
        else one
        if isinstance(one, Published)
        else one.reset
        for one in deliveries
    ]


@pytest.mark.parametrize(
    "brought",
    [(0, 2), (1, 2), (2,), (2, 1, 0), (0, 0, 1, 1, 2, 2), (0, 1, 0, 2, 1), (0, 1, 2)],
    ids=lambda brought: "".join(map(str, brought)),
)
async def test_what_the_feed_does_not_bring_is_read_from_the_log(
    any_redis: RedisServer, brought: tuple[int, ...]
) -> None:
    """Of three news some are lost, late or come twice: all three events are delivered, in order, once each."""
    async with scene(any_redis) as set_:
        news = await set_.published(0, 1, 2)
        set_.offer(*(news[index] for index in brought))
        found = await set_.delivered(3)
        assert numbers(found) == [0, 1, 2]
        set_.offer(*await set_.published(3))
        assert numbers(await set_.delivered(1)) == [3], "nothing came twice"
    positions = [one.position for one in found if one.position is not None]
    assert all(after.follows(before) for before, after in pairwise(positions))


async def test_a_part_of_a_batch_that_is_known_is_left_out(any_redis: RedisServer) -> None:
    """The catch-up has brought the first half of a batch whose news come afterwards: the second half is delivered."""
    async with scene(any_redis) as set_:
        news = await set_.published(0, 1, 2)
        set_.offer(*news[:2])
        assert numbers(await set_.delivered(2)) == [0, 1]
        (_, stage, first), (_, _, second), (_, _, third) = news
        set_.offer((news[0][0], stage, [*first, *second, *third]))
        assert numbers(await set_.delivered(1)) == [2]


async def test_the_first_news_of_a_project_are_lost(any_redis: RedisServer) -> None:
    """Where there was no log yet, the first position is known too: it is 0 of its epoch."""
    async with scene(any_redis, begun=False) as set_:
        news = await set_.published(0, 1)
        set_.offer(news[1])
        assert numbers(await set_.delivered(2)) == [0, 1]


async def test_news_of_another_life_of_the_log(any_redis: RedisServer) -> None:
    """A position of another epoch follows nothing, not even the number before its own."""
    async with scene(any_redis) as set_:
        [(position, stage, lines)] = await set_.published(0)
        set_.offer((position, stage, lines))
        await set_.delivered(1)
        other = Position(position.epoch + 10, position.n + 1)
        with any_redis.client() as client:
            client.flushall()
            client.xadd("stagecast:1:{123}:log", {"s": stage, "e": lines[0]}, id=str(other))
        set_.offer((other, stage, lines))
        [snapshot] = await set_.delivered(1)
        assert isinstance(snapshot, Snapshot)
        assert snapshot.reset == "epoch"


async def test_a_slow_reader_reads_from_the_log(any_redis: RedisServer) -> None:
    """News beyond what waits for a reader are dropped, and what they were is read from the log."""
    async with scene(any_redis) as set_:
        news = await set_.published(*range(4))
        lines = news[0][2] * (LIVE + 2)
        set_.offer(news[0], (news[1][0], news[1][1], lines), *news[2:])
        assert numbers(await set_.delivered(4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("begun", [True, False], ids=["behind", "from the start"])
async def test_a_log_that_was_trimmed_beyond_the_reader(any_redis: RedisServer, begun: bool) -> None:
    """What is to be read from the log is there no more: a snapshot, reset `truncated`, and no hole."""
    async with scene(any_redis, begun=begun) as set_:
        news = await set_.published(*range(5))
        with any_redis.client() as client:
            client.xtrim("stagecast:1:{123}:log", maxlen=2, approximate=False)
        set_.offer(news[-1])
        [snapshot] = await set_.delivered(1)
        assert isinstance(snapshot, Snapshot)
        assert snapshot.reset == "truncated"
        assert snapshot.position == news[-1][0]
        set_.offer(*await set_.published(5))
        assert numbers(await set_.delivered(1)) == [5]


@pytest.mark.parametrize("kept", [3, 0], ids=["shorter", "empty"])
async def test_a_log_that_ends_before_the_reader(any_redis: RedisServer, kept: int) -> None:
    """The log was restored from an older state, or is gone: a snapshot, reset `epoch`."""
    async with scene(any_redis) as set_:
        news = await set_.published(*range(5))
        set_.offer(*news)
        await set_.delivered(5)
        with any_redis.client() as client:
            for position, _, _ in news[kept:]:
                client.xdel("stagecast:1:{123}:log", str(position))
            if not kept:
                client.flushall()
        set_.subscription.suspect()
        [snapshot] = await set_.delivered(1)
        assert isinstance(snapshot, Snapshot)
        assert snapshot.reset == "epoch"
        assert snapshot.position == (news[kept - 1][0] if kept else None)


@pytest.mark.parametrize(("begun", "reason"), [(True, "epoch"), (False, "truncated")], ids=["behind", "from the start"])
async def test_a_log_of_two_lives(any_redis: RedisServer, begun: bool, reason: str) -> None:
    """A rewound log goes on in a new epoch behind what was left of the old one: no reader goes from that into it."""
    async with scene(any_redis, begun=begun) as set_:
        news = await set_.published(*range(3))
        epoch = news[0][0].epoch + 10
        with any_redis.client() as client:
            client.xadd("stagecast:1:{123}:log", {"s": "rewrite", "e": news[0][2][0]}, id=f"{epoch}-0")
        set_.offer(news[2])
        [snapshot] = await set_.delivered(1)
        assert isinstance(snapshot, Snapshot)
        assert snapshot.reset == reason


async def test_a_resumed_position_that_was_trimmed(any_redis: RedisServer) -> None:
    """A reader who comes back from where the log no longer reaches gets a reset, and not the rest behind a hole."""
    bus = open_redis_bus(any_redis.url, CODEC, QUIET)
    async with scene(any_redis) as set_:
        news = await set_.published(*range(5))
        with any_redis.client() as client:
            client.xtrim("stagecast:1:{123}:log", maxlen=2, approximate=False)
        for after, expected in ((news[0][0], ["truncated"]), (news[2][0], [3, 4])):
            async with bus.subscribe(TOPIC, after=after) as subscription:
                found = [await asyncio.wait_for(anext(subscription), 5) for _ in expected]
            assert numbers(found) == expected
    await bus.aclose()
