"""Whatever happens to Redis or on the way to it in mid-stream: a living publisher's viewers end with the exact text.

One scenario, a table of faults. Texts are rebuilt from token messages alone.
"""

import asyncio

import pytest

from stagecast.adapters.redis.state import Keys
from tests.faults.scenario import Fault, Scene, Visitor, assert_rising, listened, published
from tests.faults.scenario import stage_set as _stage_set
from tests.reading import rebuilt
from tests.servers import available_redis_kinds
from tests.sse.browser import project_path, request, stage_path
from tests.sse.texts import from_deltas
from tests.waiting import eventually

OUTAGE = 2.5
"""Seconds: longer than a command waits, shorter than a lease."""


async def black_hole(scene: Scene) -> None:
    """R13, R151: nothing passes for a while, then what was held comes at once."""
    scene.proxy.black_hole()
    await asyncio.sleep(OUTAGE)
    assert scene.proxy.held
    scene.proxy.heal()


async def half_open(scene: Scene) -> None:
    """R13: the server's ends are gone, and only our own timeouts can tell."""
    scene.proxy.half_open()
    await asyncio.sleep(OUTAGE)
    await eventually(lambda: scene.proxy.silenced, 10)  # somebody has noticed
    scene.proxy.heal()


async def cuts(scene: Scene) -> None:
    """R15, R16, R21: all connections are torn, again and again, also while they are being made."""
    cut = 0
    for number in range(8):
        cut += scene.proxy.cut(reset=number % 2 == 0)
        await scene.goes_on(15)
    assert cut > 4


async def delays(scene: Scene) -> None:
    """Each piece of data is late in both directions."""
    scene.proxy.delay_up = scene.proxy.delay_down = 0.2
    await scene.goes_on(100)
    scene.proxy.delay_up = scene.proxy.delay_down = 0.0


async def pause(scene: Scene) -> None:
    """R13: the process is frozen for two seconds."""
    scene.server.pause()
    await asyncio.sleep(2)
    scene.server.resume()


async def flush(scene: Scene) -> None:
    """R16: all data is gone, the connections stay."""
    for _ in range(3):
        await scene.ask("FLUSHALL")
        await scene.goes_on()


async def kill_feed(scene: Scene) -> None:
    """R11, R15: the feed is killed, again as soon as it is back."""
    killed = 0
    for _ in range(3):
        killed += await eventually(lambda: scene.ask("CLIENT", "KILL", "TYPE", "pubsub"), 10)
    assert killed >= 3
    await scene.goes_on()


async def kill_commands(scene: Scene) -> None:
    """R15: all connections for commands are killed, again and again."""
    killed = 0
    for _ in range(5):
        killed += await scene.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await scene.goes_on()
    assert killed >= 5


async def overflow(scene: Scene) -> None:
    """R103: the feed's reader stalls and Redis drops it for its output buffer."""
    await scene.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 64kb 32kb 1")
    scene.proxy.black_hole()
    feed = Keys(scene.project).feed
    readers = await scene.ask("PUBLISH", feed, "x")
    for _ in range(2000):
        if await scene.ask("PUBLISH", feed, "x" * 100_000) < readers:
            break
    else:
        pytest.fail("Redis has kept the reader")
    scene.proxy.heal()
    await scene.goes_on()


async def crash(scene: Scene) -> None:
    """R10, R16: Redis is killed, twice, and comes back with what its disk has, if anything."""
    for _ in range(2):
        await asyncio.to_thread(scene.server.kill)
        await scene.goes_on()
        await asyncio.to_thread(scene.server.start)
        await scene.goes_on(100)


FAULTS = [
    *(Fault(inject, behind) for inject in (black_hole, half_open, cuts) for behind in ("publisher", "server")),
    Fault(delays, "both"),
    Fault(overflow, "server"),
    *map(Fault, (pause, flush, kill_feed, kill_commands, crash)),
    Fault(crash, persistence=True),
    # With the publisher in a process of its own nothing is shared with the server.
    Fault(black_hole, "both", apart=True),
    Fault(cuts, "both", apart=True),
    Fault(crash, apart=True),
    # The other kinds of server.
    *(Fault(inject, kind=kind) for kind in available_redis_kinds()[1:] for inject in (crash, flush, pause, kill_feed)),
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_viewers_of_a_living_publisher_end_with_its_exact_text(fault: Fault) -> None:
    """R10, R11, R13, R15, R16, R21, R103, R151: nothing is lost, nothing comes twice, the publisher sees no failure.

    Also for those who come during the fault, who leave and come back all the time, and who listen in Python.
    """
    async with _stage_set(fault) as (scene, bus, port), published(scene, bus) as finish:
        path = stage_path(scene.project)
        standing = asyncio.Event()
        listener = asyncio.create_task(listened(scene.project, bus, standing))
        async with request(port, path) as whole, request(port, project_path(scene.project, "delta=1")) as delta:
            viewers = [asyncio.create_task(each.until_type("done", "error")) for each in (whole, delta)]
            await scene.goes_on()
            await asyncio.wait_for(standing.wait(), 20)
            injected = asyncio.create_task(fault.inject(scene))
            late, restless = Visitor(port, path), Visitor(port, path, stay=0.1)
            visitors = [asyncio.create_task(each.watch("done", "error")) for each in (late, restless)]
            await injected
            await scene.goes_on()
            await eventually(lambda: restless.visits > 2, 20)
            text = await finish()
            messages, deltas = await asyncio.gather(*viewers)
            assert from_deltas(deltas) == text
            for seen in (messages, await listener, *await asyncio.gather(*visitors)):
                assert seen[-1]["type"] == "done"
                assert rebuilt(seen) == text
            assert deltas[-1]["type"] == "done"
            async with request(port, path) as fresh:
                assert rebuilt(await fresh.until_type("done", "error")) == text
            assert_rising(whole)
            assert_rising(delta)
