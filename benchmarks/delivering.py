"""One window of tokens through a running peer to a crowd: what it cost, how long each took, whether all arrived."""

import gc
import time
from typing import Any, TypeAlias

from .load import Crowd
from .peers.sources import Order
from .servers import Setting

Figures: TypeAlias = dict[str, Any]
"""A row of results: names to numbers and texts."""
DRAIN_SECONDS = 20.0
"""That is waited for the last deliveries after the publisher has finished."""
BUSY = 0.9
"""The share of the load's core above which a result is marked: the load itself may have been the limit."""


async def deliver(setting: Setting, crowd: Crowd, order: Order) -> Figures:
    """Publish `order` and wait until every viewer has every token, or nothing more comes."""
    of_topic = {topic: len(range(n, order.count, len(order.topics))) for n, topic in enumerate(order.topics)}
    expected = sum(of_topic[viewer.topic] for viewer in crowd.viewers)
    gc.collect()
    gc.disable()
    crowd.begin()
    server_cpu, load_cpu, own_cpu, began = setting.cpu(), setting.load_cpu(), time.process_time(), time.monotonic()
    await setting.publisher.tokens(order)
    await _quiet(crowd, expected)
    server_cpu, load_cpu = setting.cpu() - server_cpu, setting.load_cpu() - load_cpu
    own_cpu, elapsed = time.process_time() - own_cpu, time.monotonic() - began
    gc.enable()
    seconds = (crowd.newest - crowd.since) / 1e9 or elapsed
    p50, p99, p999 = crowd.milliseconds(50, 99, 99.9)
    return {
        "deliveries": crowd.received,
        "lost": expected - crowd.received,
        "seconds": seconds,
        "per_second": crowd.received / seconds,
        "per_cpu_second": crowd.received / server_cpu,
        "cpu_us": server_cpu / max(crowd.received, 1) * 1e6,
        "server_share": server_cpu / elapsed,
        "load_share": (own_cpu + load_cpu) / elapsed,
        "is_busy": (own_cpu + load_cpu) / elapsed > BUSY,
        "p50": p50,
        "p99": p99,
        "p999": p999,
        "wire_bytes": crowd.bytes / max(crowd.received, 1),
    }


async def _quiet(crowd: Crowd, expected: int) -> None:
    """Until everything has arrived, or nothing for two seconds."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while crowd.received < expected and time.monotonic() < deadline:
        before = crowd.received
        await crowd.until(lambda: crowd.received >= expected, 2.0, pause=0.005)
        if crowd.received == before:
            return
