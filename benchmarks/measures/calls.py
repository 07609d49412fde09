"""What publishing takes of the worker: in the caller, with Redis there and gone, and of its processor."""

import asyncio
import json
from dataclasses import asdict
from typing import Any

from benchmarks.context import Context
from benchmarks.peers.sources import Place
from benchmarks.peers.table import Peer
from benchmarks.processes import SERVER_CORE, Program
from benchmarks.servers import ask, redis_server, talking


async def run(context: Context) -> None:
    """Redis runs on the servers' core here."""
    for repetition, peer in context.turns("calls", context.chosen("stagecast", "seed")):
        with redis_server(SERVER_CORE) as redis:
            place = Place(0, redis.url, redis.port)
            with talking("benchmarks.calling", peer.key, json.dumps(asdict(place))) as worker:
                for kind, order in _orders(context, peer).items():
                    if order.pop("stalled"):
                        redis.pause()
                    try:
                        figures = await asyncio.to_thread(ask, worker, order)
                    finally:
                        redis.resume()
                    context.add("calls", peer.key, repetition, kind=kind, **figures)
                    await _settled(worker)


def _orders(context: Context, peer: Peer) -> dict[str, dict[str, Any]]:
    plan = context.plan
    is_own = peer.is_own
    burst = {"do": "burst", "count": plan.calls if is_own else plan.publishes, "rate": 0}
    paced = {"do": "paced", "count": plan.paced_calls, "rate": plan.paced_rate}
    here = {"warm": True, "flush": True, "stalled": False}
    # a publisher that is made while Redis stands still: the worst case
    gone = {"warm": False, "flush": False, "stalled": True}
    found = {"burst": {**burst, **here}, "paced": {**paced, **here}}
    if is_own:
        found["burst, Redis stopped"] = {**burst, **gone}
        found["paced, Redis stopped"] = {**paced, **gone}
        found["sustained"] = {"do": "sustained", "count": plan.sustained, "rate": 0, **here}
    elif plan.stopped_calls:
        found["paced, Redis stopped"] = {**paced, **gone, "count": plan.stopped_calls}
    return found


async def _settled(worker: Program) -> None:
    """Until the worker has delivered what it still had."""
    before = worker.cpu()
    for _ in range(50):
        await asyncio.sleep(0.2)
        now = worker.cpu()
        if now - before < 0.02:
            return
        before = now
