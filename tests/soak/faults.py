"""What is broken: each kind of fault, and the two injectors that go round through all of them in a shuffled order.

One breaks Redis and the ways to it, and lets everything recover in between: an outage that is followed by another one
at once is a longer one. The other one breaks processes, runs and connections of viewers, whatever Redis is at.
"""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TypeAlias

from attrs import Factory, define

from tests.faults.proxy import Proxy
from tests.sse.browser import request

from .episodes import Episode, Episodes, executing
from .scene import LEASE, Scene

OUTAGE = 2.5
"""Seconds: longer than a command may take, and with the time to notice its end much shorter than a lease."""
CALM = 4.0
"""Seconds in which everything finds back to Redis."""
SHUTDOWN_SECONDS = 5.0


@define(eq=False)
class Injector:
    """Injects faults into the scene; counts those that had an effect."""

    scene: Scene
    episodes: Episodes
    chance: random.Random
    counts: Counter[str] = Factory(Counter)
    complaints: list[str] = Factory(list)
    """What went wrong by itself: a server that did not end as it should."""
    is_over: bool = False

    def of_redis(self) -> "Faults":
        return {
            "Redis: killed and started again": self.crash,
            "Redis: FLUSHALL": self.flush,
            "Redis: stopped for 2 s": self.pause,
            "Redis: CLIENT KILL TYPE pubsub": self.kill_feeds,
            "Redis: CLIENT KILL TYPE normal": self.kill_commands,
            "way to Redis: black hole": self.black_hole,
            "way to Redis: half-open": self.half_open,
            "way to Redis: cut": self.cut,
            "way to Redis: slow": self.delay,
        }

    def of_others(self) -> "Faults":
        return {
            "server: SIGTERM": self.stop_server,
            "server: SIGKILL": self.kill_server,
            "publisher: SIGKILL": self.kill_publisher,
            "publisher: SIGSTOP, then a zombie": self.zombie,
            "Celery: SIGKILL of a child": self.kill_task,
            "run: cancelled": self.cancel,
            "run: begun anew": self.regenerate,
            "viewers: disconnected": self.disconnect,
        }

    @property
    def kinds(self) -> list[str]:
        return [*self.of_redis(), *self.of_others()]

    async def inject(self, faults: "Faults", calm: tuple[float, float]) -> None:
        """Round after round, until it is over. What has no effect now is tried again after the others."""
        due: list[str] = []
        while not self.is_over:
            if not due:
                due = self.chance.sample(list(faults), len(faults))
            kind = due.pop(0)
            injected = await faults[kind]()
            self.counts[kind] += injected
            if not injected:
                due.append(kind)
            await asyncio.sleep(self.chance.uniform(*calm) if injected else 0.2)

    async def crash(self) -> int:
        scene = self.scene
        with nullcontext() if scene.persistence else scene.losing():
            await asyncio.to_thread(scene.redis.kill)
            await asyncio.sleep(self.chance.uniform(0.1, 1.5))
            await asyncio.to_thread(scene.redis.start)
        return 1

    async def flush(self) -> int:
        with self.scene.losing():
            await self._ask("FLUSHALL")
        return 1

    async def pause(self) -> int:
        self.scene.redis.pause()
        try:
            await asyncio.sleep(2)
        finally:
            self.scene.redis.resume()
        return 1

    async def kill_feeds(self) -> int:
        return bool(await self._ask("CLIENT", "KILL", "TYPE", "pubsub"))

    async def kill_commands(self) -> int:
        return bool(await self._ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))

    async def black_hole(self) -> int:
        proxies = self._proxies()
        held = sum(proxy.held for proxy in proxies)
        for proxy in proxies:
            proxy.black_hole()
        try:
            await asyncio.sleep(self.chance.uniform(0.5, OUTAGE))
        finally:
            for proxy in proxies:
                proxy.heal()
        return sum(proxy.held for proxy in proxies) > held

    async def half_open(self) -> int:
        proxies = self._proxies()
        count = sum(proxy.open for proxy in proxies)
        for proxy in proxies:
            proxy.half_open()
        try:
            await asyncio.sleep(self.chance.uniform(0.2, OUTAGE))
        finally:
            for proxy in proxies:
                proxy.heal()
        return count > 0

    async def cut(self) -> int:
        count = 0
        for number in range(self.chance.randint(1, 5)):
            count += sum(proxy.cut(reset=number % 2 == 0) for proxy in self._proxies())
            await asyncio.sleep(0.2)
        return count > 0

    async def delay(self) -> int:
        proxies = self._proxies()
        moved = sum(proxy.bytes_down for proxy in proxies)
        for proxy in proxies:
            proxy.delay_up = proxy.delay_down = 0.15
        try:
            await asyncio.sleep(2)
        finally:
            for proxy in proxies:
                proxy.delay_up = proxy.delay_down = 0
        return sum(proxy.bytes_down for proxy in proxies) > moved

    async def stop_server(self) -> int:
        server, loop = self.scene.mortal_server, asyncio.get_running_loop()
        since = loop.time()
        code = await asyncio.to_thread(server.stop, signal.SIGTERM)
        if code not in {0, -signal.SIGTERM} or loop.time() - since > SHUTDOWN_SECONDS:
            self.complaints.append(f"a server took {loop.time() - since:.1f} s to end, with code {code}")
        await self._start_server()
        return 1

    async def kill_server(self) -> int:
        await asyncio.to_thread(self.scene.mortal_server.stop, signal.SIGKILL)
        await self._start_server()
        return 1

    async def _start_server(self) -> None:
        await asyncio.sleep(self.chance.uniform(0, 1))
        await asyncio.to_thread(self.scene.mortal_server.start)

    async def kill_publisher(self) -> int:
        publisher, events = self.scene.mortal, self.scene.events
        if not publisher.busy:
            return 0
        await publisher.kill()
        events.killed.update(dict.fromkeys(publisher.in_hand(), time.time()))
        await publisher.start()
        return 1

    async def zombie(self) -> int:
        """Stopped for longer than a lease, or less; meanwhile somebody else may begin one of its runs anew."""
        publisher, asleep = self.scene.mortal, self.scene.events.asleep
        mine = [one for one in self.episodes.active if one.publisher is publisher and one.takeover is None]
        if not mine:
            return 0
        publisher.signal(signal.SIGSTOP)
        begun, in_hand = time.time(), publisher.in_hand()
        try:
            await asyncio.sleep(LEASE * self.chance.uniform(0.3, 1.6))
            if self.chance.random() < 0.7:
                self.episodes.supplant(self.chance.choice(mine), self.scene.steady, in_hand)
            await asyncio.sleep(1)
        finally:
            publisher.signal(signal.SIGCONT)
        for key in in_hand:
            asleep.setdefault(key, []).append((begun, time.time()))
        return bool(in_hand)

    async def kill_task(self) -> int:
        scene = self.scene
        for name in self.episodes.tasks:
            found = executing(scene.folder, name)
            if found is None or found[1] not in scene.worker.children:
                continue
            key, pid = found
            scene.events.killed[key] = time.time()
            os.kill(pid, signal.SIGKILL)
            return 1
        return 0

    async def cancel(self) -> int:
        episode = self._some_episode()
        if episode is None:
            return 0
        stage = self.chance.choice(list(episode.keys))
        path = f"/api/v1/projects/{episode.name}/stages/{stage}/cancel"
        try:
            async with request(self.scene.round_robin.port, path, {"Content-Length": "0"}, method="POST") as response:
                return response.status == 202
        except (OSError, EOFError, TimeoutError, ValueError, IndexError):
            return 0  # the server was killed meanwhile

    async def regenerate(self) -> int:
        episode = self._some_episode()
        return int(episode is not None and await self.episodes.take_over(episode, self.scene.steady))

    async def disconnect(self) -> int:
        return self.scene.round_robin.cut(reset=self.chance.random() < 0.5) > 0

    def _proxies(self) -> Sequence[Proxy]:
        """The way of the publishers, of the servers, or both."""
        both = self.scene.to_publishers, self.scene.to_servers
        return self.chance.choice([both[:1], both[1:], both])

    def _some_episode(self) -> Episode | None:
        return self.chance.choice(self.episodes.active) if self.episodes.active else None

    async def _ask(self, *command: str) -> object:
        return await asyncio.to_thread(self.scene.redis_answer, *command)


Faults: TypeAlias = Mapping[str, Callable[[], Awaitable[int]]]
