"""The soak from its beginning to its verdict."""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.waiting import eventually

from . import watching
from .checker import check
from .episodes import Episodes
from .faults import Injector
from .journal import read_folder
from .records import SessionFile, read_sessions, write_events
from .report import Report
from .scene import Scene, staged

STEADY_SLOTS, MORTAL_SLOTS = 3, 2
"""How many projects a publisher publishes at once."""
POOL = 2
"""Connections to Redis that a process keeps once it has made them."""
SAMPLE = 2.0
"""Seconds between two samples of memory."""
LONG = 600.0
"""Seconds from which on memory must be flat: below, a process still grows to its size."""
FEWEST = 12
"""Kinds of faults that a short soak must have injected; a long one must have had all."""
OPEN_SECONDS = 30.0


async def soak(seconds: float, seed: int, folder: Path, *, persistence: bool = False) -> Report:
    """Break things for `seconds`; everything that was recorded is in `folder`."""
    chance = random.Random(seed)
    memory = watching.Memory()
    sessions = SessionFile(folder / "viewers.jsonl.gz")
    used, since = _processor_time(), time.monotonic()
    try:
        async with staged(folder, seed, persistence=persistence) as scene:
            episodes = Episodes(scene, chance, sessions)
            injector = Injector(scene, episodes, chance)
            await _warm_up(scene, episodes)
            before = await _settled(scene)
            await _break(seconds, scene, episodes, injector, memory)
            after = await _settled(scene, before)
            complaints = [*injector.complaints, *await _keys_without_end(scene), *await _ended(scene)]
            write_events(folder / "events.json", scene.events)
    finally:
        sessions.close()
    load = (_processor_time() - used) / (time.monotonic() - since)
    verdict = check(read_folder(folder), scene.events, read_sessions(folder / "viewers.jsonl.gz"))
    faults = {kind: injector.counts[kind] for kind in injector.kinds}
    resources = [(name, was, after[name]) for name, was in before.items()]
    complaints += too_few(faults, seconds)
    complaints += [
        f"left behind: {name}: {was}, then {now}" for name, was, now in resources if now > was + _spare(name)
    ]
    complaints += [f"memory has grown: {one}" for one in memory.grown()] if seconds >= LONG else []
    complaints += _tracebacks(folder)
    (folder / "memory.json").write_text(json.dumps(memory.samples), encoding="utf-8")
    return Report(seed, seconds, faults, verdict, memory, resources, complaints, load)


async def _warm_up(scene: Scene, episodes: Episodes) -> None:
    """A project of each publisher, and one of the worker: everything is connected and imported."""
    publishers = scene.steady, scene.mortal
    await asyncio.gather(*(episodes.project(one, tokens=20) for one in publishers), episodes.task(tokens=20))


async def _break(seconds: float, scene: Scene, episodes: Episodes, injector: Injector, memory: watching.Memory) -> None:
    """Publish, watch and break; then let everything come to its end."""
    slots = [scene.steady] * STEADY_SLOTS + [scene.mortal] * MORTAL_SLOTS
    background = [asyncio.create_task(_sample(scene, memory))]
    injecting = [
        asyncio.create_task(injector.inject(injector.of_redis(), (4.0, 5.0))),
        asyncio.create_task(injector.inject(injector.of_others(), (0.5, 2.0 if seconds < LONG else 4.0))),
    ]
    publishing = [asyncio.create_task(episodes.slot(publisher)) for publisher in slots]
    publishing.append(asyncio.create_task(episodes.task_slot()))
    try:
        done, _ = await asyncio.wait(
            [*injecting, *publishing, *background], timeout=seconds, return_when=asyncio.FIRST_EXCEPTION
        )
        for task in done:
            task.result()
        episodes.is_over = injector.is_over = True
        await asyncio.gather(*injecting, *publishing)
    finally:
        for task in (*background, *injecting, *publishing):
            task.cancel()
        await asyncio.gather(*background, *injecting, *publishing, return_exceptions=True)


async def _sample(scene: Scene, memory: watching.Memory) -> None:
    while True:
        memory.sample(scene.measured)
        await asyncio.sleep(SAMPLE)


async def _settled(scene: Scene, before: Mapping[str, int] | None = None) -> dict[str, int]:
    """What is open once nobody publishes or looks; waits for it to be no more than `before`."""
    found: dict[str, int] = {}

    async def is_settled() -> bool:
        found.update(await _open(scene))
        limits = before or {"channels in Redis": 0, "connections of viewers": 0}
        return all(found[name] <= was + _spare(name) for name, was in limits.items())

    with suppress(AssertionError):  # told by the report
        await eventually(is_settled, OPEN_SECONDS)
    return found


async def _open(scene: Scene) -> dict[str, int]:
    counts = await scene.steady.ask("count", "all")
    channels = await asyncio.to_thread(scene.redis_answer, "PUBSUB", "CHANNELS")
    return {
        **{f"publisher's {name}": counts[name] for name in ("threads", "tasks", "files")},
        "server's files": watching.files(scene.steady_server.pid),
        "channels in Redis": len(channels),
        "connections of viewers": scene.round_robin.open,
    }


def _spare(name: str) -> int:
    """How many more there may be in the end."""
    return POOL if name.endswith("files") else 0


async def _keys_without_end(scene: Scene) -> list[str]:
    """Keys that would live for ever."""

    def look() -> list[str]:
        with scene.redis.client() as client:
            return [f"{key!r} has no time to live" for key in client.scan_iter() if client.pttl(key) == -1]

    return await asyncio.to_thread(look)


async def _ended(scene: Scene) -> list[str]:
    """End all processes as a deployment does; what has not ended well."""
    codes: dict[str, int] = {}
    for name, publisher in {"the steady publisher": scene.steady, "the mortal publisher": scene.mortal}.items():
        codes[name] = await publisher.finish()
    for name, server in {"the steady server": scene.steady_server, "the mortal server": scene.mortal_server}.items():
        codes[name] = await asyncio.to_thread(server.stop, signal.SIGTERM)
    codes["the worker"] = await asyncio.to_thread(scene.worker.stop)
    return [f"{name} has ended with {code}" for name, code in codes.items() if code not in {0, -signal.SIGTERM}]


def too_few(faults: Mapping[str, int], seconds: float) -> list[str]:
    """A complaint where not enough was broken for the soak to prove anything."""
    kinds = sum(map(bool, faults.values()))
    if kinds >= (len(faults) if seconds >= LONG else FEWEST):
        return []
    return [f"{kinds} kinds of faults were injected of {len(faults)}"]


def _tracebacks(folder: Path) -> list[str]:
    """What programs say of exceptions that nobody expected."""
    found = []
    for path in sorted(folder.glob("*.log")):
        text = path.read_text(errors="replace")
        tracebacks = text.count("\nTraceback (most recent call last)")
        expected = text.count("\nbilliard.exceptions.WorkerLostError: ")  # what Celery says of a killed child
        if tracebacks > 2 * expected:
            found.append(f"{path} has {tracebacks} tracebacks")
    return found


def _processor_time() -> float:
    """Seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])
