"""The hand-off seams under every schedule with one deviation, and under many more by chance; then on real Redis.

Each reader checks each message that it is told (`tests.faults.watching`); to see a failure again:
`replay(in_memory(play(seam, reader)), schedule)`, with the schedule that the failure tells.
"""

import asyncio
import random
import time
from uuid import uuid4

import pytest
from attrs import frozen

from stagecast.adapters.redis.bus import open_redis_bus
from stagecast.adapters.redis.state import Keys
from stagecast.domain.bus import BusLimits
from stagecast.domain.topics import Topic
from stagecast.entrypoints.testing.actors import CODEC
from tests.faults.interleaving import PAUSE, Stuck, explore, replay, step, wander
from tests.faults.readers import follow, read_ahead, resume, viewer
from tests.faults.scenes import (
    Actor,
    Play,
    World,
    after_the_first,
    flush,
    in_memory,
    publisher,
    regenerating,
    restating,
    trim,
)
from tests.faults.stepping import SteppingBus
from tests.servers import RedisServer

SEED = 20_240_607


@frozen
class Seam:
    """What goes on while a reader comes, comes back, or goes on from the past to the present."""

    publishers: tuple[Actor, ...]
    runs: str = "a"
    saboteurs: tuple[Actor, ...] = ()
    expires: bool = False


ONE = publisher("a")
NEW_RUN = publisher("a", "A"), after_the_first(publisher("b", "B"))
NEW_ATTEMPT = publisher("a", "A"), after_the_first(publisher("b", "A"))
AGAIN = regenerating("a", "b")

SEAMS = {
    "tail": Seam((ONE,)),
    "restated": Seam((restating,)),
    "trim": Seam((ONE,), saboteurs=(trim,)),
    "flush": Seam((ONE,), saboteurs=(flush,)),
    "expiry": Seam((ONE,), saboteurs=(flush,), expires=True),
    "new-run": Seam(NEW_RUN, "ab"),
    "new-attempt": Seam(NEW_ATTEMPT, "ab"),
    "again": Seam((AGAIN,), "ab"),
    "again-trim": Seam((AGAIN,), "ab", (trim,)),
    "new-run-trim": Seam(NEW_RUN, "ab", (trim,)),
    "new-run-flush": Seam(NEW_RUN, "ab", (flush,)),
    "new-attempt-expiry": Seam(NEW_ATTEMPT, "ab", (flush,), expires=True),
    "again-flush": Seam((AGAIN,), "ab", (flush,)),
}
PLAIN = {"tail", "restated", "trim", "flush", "expiry", "new-run", "new-attempt", "again"}
"""Seams that are tried with each deviation too."""
READERS = {
    "follower": follow,
    "resuming": resume,
    "subscriber": read_ahead(),
    "subscriber-again": read_ahead(returns=True),
    "viewer": viewer(),
    "delta-again": viewer(delta=True, returns=True),
    "other-server": viewer(returns=True, to=1),
}


def play(seam: str, *readers: str) -> Play:
    found = SEAMS[seam]
    return Play(
        publishers=found.publishers,
        readers=tuple(READERS[reader] for reader in readers),
        saboteurs=found.saboteurs,
        runs=found.runs,
    )


@pytest.mark.parametrize("seam", SEAMS)
def test_no_schedule_breaks_a_seam_in_memory(seam: str) -> None:
    """R23, R36: whatever the order of steps, each reader ends with one run's whole text, in order, without a repeat."""
    deviating = by_chance = 0
    for reader in READERS:
        scene = in_memory(play(seam, reader), expires=SEAMS[seam].expires)
        deviating += explore(scene, 1 if seam in PLAIN else 0)
        by_chance += wander(scene, 40, SEED)
    print(f"{seam}: {deviating} schedules with one deviation or none, {by_chance} by chance")
    assert deviating > (300 if seam in PLAIN else 0)
    assert by_chance == 40 * len(READERS)


@pytest.mark.parametrize("losing", [0, 3], ids=["late-feed", "lossy-feed"])
@pytest.mark.parametrize("seam", SEAMS)
def test_no_schedule_breaks_the_seam_between_log_and_feed(seam: str, losing: int) -> None:
    """R15, R23: so it is where a feed that may be late, or lose news, wakes the Redis adapter's subscriptions."""
    for reader in ("follower", "resuming", "subscriber-again", "other-server"):
        scene = in_memory(play(seam, reader), fed=losing, expires=SEAMS[seam].expires, waits=losing > 0)
        wander(scene, 60, SEED)


async def test_no_timing_breaks_a_seam_on_redis(any_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """R23: hundreds of rounds with small delays at random, without the look at logs that mends what was missed."""
    monkeypatch.setattr("stagecast.adapters.redis.feed.LOOK", 1000.0)
    bus = open_redis_bus(any_redis.url, CODEC, BusLimits(lease=4000))
    at_once = asyncio.Semaphore(40)
    rounds = 0

    async def played(seam: str, reader: str, seed: int) -> None:
        nonlocal rounds
        chance = random.Random(seed)
        PAUSE.set(lambda: chance.choice((0, 0, 0, 0.0005, 0.002)))
        project = f"p-{uuid4().hex[:12]}"
        keys = Keys(project)

        async def lose() -> None:
            await asyncio.to_thread(ask, "DEL", *keys.of_stage("s"), *keys.of_stage("other"))

        def ask(*command: str) -> None:
            with any_redis.client() as client:
                client.execute_command(*command)

        world = World(SteppingBus(bus), time.time, lose, SEAMS[seam].runs, Topic(project, "s"))
        world.trim = lambda: asyncio.to_thread(ask, "XTRIM", keys.log, "MAXLEN", "1")
        async with at_once:
            try:
                async with asyncio.timeout(60):
                    await play(seam, reader).on(world)
            except BaseException as error:
                error.add_note(f"{seam}, {reader}, seed {seed}")
                raise
        rounds += 1

    try:
        async with asyncio.TaskGroup() as group:
            for seed in range(6):
                for seam in SEAMS:
                    for reader in READERS:
                        group.create_task(played(seam, reader, SEED + seed))
    finally:
        await bus.aclose()
    print(f"{rounds} rounds")
    assert rounds == 6 * len(SEAMS) * len(READERS) > 300


def test_the_search_finds_what_only_one_schedule_shows() -> None:
    """Two that read, wait and write lose one of their counts; the failure tells the schedule, which shows it again."""

    async def scene() -> None:
        count = 0

        async def add() -> None:
            nonlocal count
            before = count
            await step()
            count = before + 1

        await asyncio.gather(add(), add())
        assert count == 2

    replay(scene)
    with pytest.raises(AssertionError) as found:
        explore(scene, 1)
    schedule = eval(found.value.__notes__[-1].removeprefix("the schedule was "))
    assert len(schedule) == 1
    with pytest.raises(AssertionError, match="1 == 2"):
        replay(scene, schedule)


def test_the_search_finds_who_waits_for_ever() -> None:
    """A wake-up that comes before anybody waits is lost, and then nobody ever runs again."""

    async def scene() -> None:
        changed, news = asyncio.Condition(), []

        async def tell() -> None:
            async with changed:
                news.append("news")
                changed.notify_all()

        async def wait() -> None:
            if not news:
                await step()
                async with changed:
                    await changed.wait()

        await asyncio.gather(wait(), tell())

    with pytest.raises(Stuck):
        explore(scene, 1)


def test_the_search_is_complete() -> None:
    """Three that take two steps each can be interleaved in 90 ways, and each is tried."""
    seen = set[str]()

    async def scene() -> None:
        order = list[str]()

        async def walk(name: str) -> None:
            order.append(name)
            await step()
            order.append(name)

        await asyncio.gather(*(walk(name) for name in "abc"))
        seen.add("".join(order))

    explore(scene, 6)
    assert len(seen) == 90
