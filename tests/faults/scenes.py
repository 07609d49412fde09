"""The actors at the hand-off seams and the scenes that they play, for the tests of interleavings."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from attrs import Factory, define, field, frozen

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits, MessageBus
from stagecast.domain.producing import TaskRun
from stagecast.domain.publishing import StagePublisher
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import EdgeSettings
from stagecast.entrypoints.sse.hub import Hub
from stagecast.entrypoints.testing.actors import CODEC, Producer, snapshot
from tests.faults.interleaving import Scene, step
from tests.faults.stepping import FedBus, SteppingBus
from tests.faults.watching import Watch, pieces, whole

LIMITS = BusLimits(log_length=16, time_to_live=3600.0)


@define(eq=False)
class World:
    """What one schedule is played in."""

    bus: MessageBus
    clock: Callable[[], float]
    lose: Callable[[], Awaitable[None]]
    """Let the project's data be gone."""
    runs: Sequence[str]
    topic: Topic = field(factory=lambda: Topic("p", "s"))
    trim: Callable[[], Awaitable[None]] | None = None
    """Let the log be short, where filling it up takes too many events."""
    opened: int = 0
    """The newest run that has surely begun."""
    is_lost: bool = False
    """Whether data were lost."""
    begun: asyncio.Event = Factory(asyncio.Event)
    """The first run has begun."""
    hubs: list[Hub] = Factory(list)

    def hub(self, number: int = 0) -> Hub:
        """A server's hub, made at its first use."""
        while len(self.hubs) <= number:
            self.hubs.append(Hub(self.bus, EdgeSettings(), clock=self.clock))
        return self.hubs[number]

    def watch(self) -> Watch:
        """For a reader who comes now. After a loss an older run may be back before the newer is."""
        return Watch(self.runs, newest=0 if self.is_lost else self.opened)


class Clock:
    """A wall clock that moves with the loop, and by a microsecond with each look."""

    def __init__(self) -> None:
        self.offset = 1_000_000.0

    def __call__(self) -> float:
        self.offset += 1e-6
        return self.offset + asyncio.get_running_loop().time()


Actor: TypeAlias = Callable[[World], Awaitable[None]]


# Publishers


def publisher(run: str, task: str | None = None, *, ends: bool = True) -> Actor:
    """One that publishes `run`; as an execution of a task's run where `task` names one."""

    async def publish(world: World) -> None:
        execution = TaskRun(run=task, task=task, nonce=run) if task else None
        made = StagePublisher(world.bus, world.topic, CODEC, task=execution, clock=world.clock)
        delivering = asyncio.create_task(made.run())
        index = world.runs.index(run)
        if task:
            await made.opened(60)
            world.begun.set()
        made.publish_stage_update("processing", message=run)
        for piece in pieces(run):
            made.publish_token(piece)
            if await made.flush():
                world.opened = max(world.opened, index)
        if ends:
            made.publish_done(made.text)
            delivered = await made.flush()
            assert made.superseded or delivered
        made.close()
        await delivering
        assert made.superseded or made.text == whole(run)
        assert not made.superseded or index < len(world.runs) - 1, "the newest run is never superseded"

    return publish


def after_the_first(actor: Actor) -> Actor:
    """One that comes when the first run has begun."""

    async def come(world: World) -> None:
        await world.begun.wait()
        await actor(world)

    return come


async def restating(world: World) -> None:
    """One whose last token comes as the whole text, as after an outage in which tokens have collapsed."""
    producer = Producer(world.topic)
    for piece in pieces("a")[:-1]:
        await producer.write(world.bus, piece)
    await producer.send(world.bus, producer.token(whole("a"), 0, snapshot=True))
    await producer.send(world.bus, producer.done())


def regenerating(*runs: str) -> Actor:
    """One after the other, each begun when the one before has ended."""

    async def publish(world: World) -> None:
        for run in runs:
            await publisher(run)(world)

    return publish


# Saboteurs


async def trim(world: World) -> None:
    """So much happens in another stage that nothing else is left in the log."""
    await step()
    if world.trim is not None:
        await world.trim()
        return
    producer = Producer(Topic(world.topic.project, "other"))
    await producer.send(world.bus, *(producer.progress(number, 16) for number in range(16)))


async def flush(world: World) -> None:
    """All data are gone."""
    await step()
    world.is_lost = True
    await world.lose()


# Scenes


@frozen(kw_only=True)
class Play:
    """Who plays in a scene."""

    publishers: tuple[Actor, ...]
    readers: tuple[Actor, ...]
    saboteurs: tuple[Actor, ...] = ()
    runs: str = "a"
    """The runs, in order: a letter each."""

    async def on(self, world: World) -> None:
        """Play, in this world."""
        await asyncio.gather(*(reader(world) for reader in self.readers), self._publish(world))
        for hub in world.hubs:
            await hub.aclose()

    async def _publish(self, world: World) -> None:
        await asyncio.gather(*(actor(world) for actor in (*self.publishers, *self.saboteurs)))
        state = (await snapshot(world.bus, world.topic)).stages.get("s")
        if state is None or state.run is None:  # lost after the end: who comes then waits for the next run
            assert world.is_lost, "nothing was lost, and nothing is there"
            world.opened = len(world.runs) - 1
            await publisher(world.runs[-1])(world)
            return
        assert state.ended is not None
        assert state.text == whole(world.runs[-1]), "what was acknowledged is there"


def in_memory(play: Play, *, fed: int | None = None, expires: bool = False, waits: bool = False) -> Scene:
    """The play with the memory bus; with `fed` by the Redis adapter's subscriptions, whose feed loses so much.

    `expires`: data are lost by their time to live. `waits`: some reader needs a timer; else whoever needs one has
    missed its wake-up.
    """

    async def scene() -> None:
        loop, clock = asyncio.get_running_loop(), Clock()
        memory = MemoryBus(CODEC, LIMITS, clock=clock, monotonic=loop.time)
        bus = SteppingBus(memory) if fed is None else FedBus(memory, fed)

        async def lose() -> None:
            if expires:
                clock.offset += LIMITS.time_to_live + 1
            else:
                memory.lose_everything()

        world, began = World(bus, clock, lose, play.runs), loop.time()
        await play.on(world)
        passed = loop.time() - began
        assert waits or world.is_lost or not passed, f"somebody was woken by a timer after {passed} s"
        await bus.aclose()

    return scene
