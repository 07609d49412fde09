"""Publishing with log, snapshot and channel, one by one and batched, beside plain PUBLISH; redis-benchmark's too."""

import asyncio
import json
import shutil
import subprocess
from dataclasses import asdict

from benchmarks.context import Context
from benchmarks.peers.sources import Place
from benchmarks.processes import LOAD_CORE, SERVER_CORE, becomes_child
from benchmarks.servers import ask, redis_server, talking

BENCHMARK = shutil.which("redis-benchmark")


async def run(context: Context) -> None:
    """Redis runs on the servers' core here, the publisher on the load's."""
    plan = context.plan
    with redis_server(SERVER_CORE) as redis:
        place = Place(0, redis.url, redis.port)
        with talking("benchmarks.throughput", json.dumps(asdict(place))) as publisher:
            for n in range(plan.rounds):
                context.tell(f"throughput: {n + 1}")
                order = {"publishes": plan.publishes, "batched": plan.batched, "batch": plan.batch, "round": n}
                found = await asyncio.to_thread(ask, publisher, order)
                reference = _redis_benchmark(redis.port, plan.publishes * 5)
                context.add("throughput", "stagecast", n, redis_benchmark=reference, **found)


def _redis_benchmark(port: int, count: int) -> float | None:
    """PUBLISH a second by Redis's own program, one connection, one by one; None where it is not installed."""
    if BENCHMARK is None:
        return None
    payload = "x" * 120
    done = subprocess.run(
        [BENCHMARK, "-p", str(port), "-c", "1", "-n", str(count), "--csv", "PUBLISH", "channel", payload],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        preexec_fn=becomes_child(LOAD_CORE),
    )
    return float(done.stdout.splitlines()[-1].split('","')[1].strip('"'))
