"""An event loop that is told which of its ready callbacks runs next, and the search through all such schedules.

It drives the real code at its real await points: nothing in it knows what is tested. Time is virtual. A schedule is
written as its deviations from the usual course, each `(decision, option)`; `replay` runs one again.
"""

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, ContextVar
from typing import Any, TypeAlias, cast

Schedule: TypeAlias = tuple[tuple[int, int], ...]
"""At which decisions (counted from 0) another option than the usual one, number 0, was taken, and which."""
Scene: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""Makes everything anew, and raises what is wrong."""

TURNS = 20_000
"""Callbacks after which a schedule counts as endless."""
SECONDS = 600.0
"""Virtual seconds after which somebody waits for ever."""


class Stuck(AssertionError):
    """Nothing can run any more, or nothing comes to an end."""


PAUSE: ContextVar[Callable[[], float] | None] = ContextVar("PAUSE", default=None)
"""How long a step takes, where it is a real event loop that runs."""


async def step() -> None:
    """Let the others have their turn here, if the schedule says so."""
    pause = PAUSE.get()
    await asyncio.sleep(0 if pause is None else pause())


class ScheduledLoop:
    """Runs one schedule. An actor is a task, or whatever else callbacks belong to; its own callbacks stay in order.

    What asyncio's tasks, futures, events and timeouts need of a loop is here, and nothing else.
    Usually an actor runs until it waits, then the next in the order of their appearance; a deviation gives the turn
    to another one, and may so hold an actor up for as long as the others have something to do.
    """

    def __init__(self, schedule: Schedule = (), chance: random.Random | None = None) -> None:
        self.widths: list[int] = []
        """How many options each decision had."""
        self.taken: list[tuple[int, int]] = []
        """The deviations so far."""
        self.errors: list[dict[str, Any]] = []
        self.now = 1000.0
        self._schedule, self._chance = dict(schedule), chance
        self._actors: dict[int, int] = {}
        self._known: list[object] = []
        self._ready: dict[int, deque[asyncio.Handle]] = {}
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0
        self._current = 0
        self._as_loop = cast(asyncio.AbstractEventLoop, self)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` to its end. Raises Stuck."""
        asyncio._set_running_loop(self._as_loop)
        try:
            task = self.create_task(work)
            turns = 0
            while not task.done():
                self._turn()
                turns += 1
                if turns > TURNS or self.now > 1000.0 + SECONDS:
                    task.print_stack()
                    raise Stuck(f"not at an end after {turns} turns and {self.now - 1000.0:.1f} s")
            task.result()
            left = [task for task in asyncio.all_tasks(self._as_loop) if not task.done()]
            assert not left, f"tasks are left behind: {left}"
            assert not self.errors, self.errors
        finally:
            self._clear_up()
            asyncio._set_running_loop(None)

    def _clear_up(self) -> None:
        """After a failure: end what is left, so that the next schedule's failures are its own."""
        self._schedule, self._chance = {}, None
        for _ in range(TURNS):
            if not (left := asyncio.all_tasks(self._as_loop)):
                return
            for task in left if not self._ready else ():
                task.cancel()
            self._turn()

    def _turn(self) -> None:
        while self._timers and (self._timers[0][0] <= self.now or not self._ready):
            when, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled():
                self.now = max(self.now, when)
                self._add(timer)
        if not self._ready:
            raise Stuck("everybody waits, and nobody will ever wake them")
        waiting = sorted(self._ready)
        usual = next((index for index, actor in enumerate(waiting) if actor >= self._current), 0)
        self._current = actor = waiting[(usual + self._decide(len(waiting))) % len(waiting)]
        handles = self._ready[actor]
        handle = handles.popleft()
        if not handles:
            del self._ready[actor]
        if not handle.cancelled():
            handle._run()

    def _decide(self, width: int) -> int:
        if width == 1:
            return 0
        decision = len(self.widths)
        self.widths.append(width)
        option = self._schedule.get(decision, 0) if self._chance is None else self._chance.randrange(width)
        if option:
            self.taken.append((decision, option))
        assert option < width, f"decision {decision} has {width} options only: the scene is not deterministic"
        return option

    def _add(self, handle: asyncio.Handle) -> None:
        callback = handle._callback  # type: ignore[attr-defined]
        owner = getattr(callback, "__self__", None) or callback
        if id(owner) not in self._actors:
            self._actors[id(owner)] = len(self._known)
            self._known.append(owner)  # kept, so that nothing else gets its id
        self._ready.setdefault(self._actors[id(owner)], deque()).append(handle)

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self._as_loop, context)
        self._add(handle)
        return handle

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self._as_loop, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, timer))
        return timer

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers stay in the heap until their time comes."""

    def time(self) -> float:
        return self.now

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self._as_loop)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> "asyncio.Task[Any]":
        return asyncio.Task(coro, loop=self._as_loop, name=name, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    def get_debug(self) -> bool:
        return False


def replay(scene: Scene, schedule: Schedule = (), chance: random.Random | None = None) -> ScheduledLoop:
    """Run one schedule of the scene, or one by chance. What fails carries the schedule as a note."""
    loop = ScheduledLoop(schedule, chance)
    state = random.getstate()
    random.seed(0)
    try:
        loop.run(scene())
    except BaseException as error:
        error.add_note(f"the schedule was {tuple(loop.taken)}")
        raise
    finally:
        random.setstate(state)
    return loop


def explore(scene: Scene, deviations: int) -> int:
    """Run every schedule with at most so many deviations; how many there were."""
    pending: list[Schedule] = [()]
    count = 0
    while pending:
        schedule = pending.pop()
        widths = replay(scene, schedule).widths
        count += 1
        if len(schedule) < deviations:
            pending.extend((*schedule, deviation) for deviation in _further(schedule, widths))
    return count


def _further(schedule: Schedule, widths: list[int]) -> Iterator[tuple[int, int]]:
    begin = schedule[-1][0] + 1 if schedule else 0
    for decision in range(begin, len(widths)):
        for option in range(1, widths[decision]):
            yield decision, option


def wander(scene: Scene, times: int, seed: int) -> int:
    """Run the scene so often by chance, with many more deviations than `explore` can look through."""
    chance = random.Random(seed)
    for _ in range(times):
        replay(scene, (), chance)
    return times
