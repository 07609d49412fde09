"""The worker's side, in a process of its own: what `publish_token` takes of its caller, and of the processor.

python -m benchmarks.calling WHO PLACE
"""

import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from attrs import frozen

from benchmarks.peers.sources import Place

WORD = "abcd "


@frozen
class Caller:
    """Publishes one token of a stage, and waits for everything."""

    publish: Callable[[str], object]
    flush: Callable[[], object]


def stagecast_caller(place: Place, topic: str) -> Caller:
    from stagecast import RedisStreamPublisher

    publisher = RedisStreamPublisher(topic, "s", bus=place.redis_url)
    return Caller(publisher.publish_token, lambda: publisher.flush(60))


def seed_caller(place: Place, topic: str) -> Caller:
    from benchmarks.peers.seed_app import open_source
    from benchmarks.peers.sources import Order

    source = open_source(place)
    return Caller(lambda content: source.tokens(Order([topic], 1, content=content)), lambda: None)


CALLERS: dict[str, Callable[[Place, str], Caller]] = {"stagecast": stagecast_caller, "seed": seed_caller}
_opened: defaultdict[str, int] = defaultdict(int)


def carry_out(who: str, place: Place, order: dict[str, Any]) -> dict[str, Any]:
    """Make `count` calls, `rate` a second (0: at once), with a publisher that has already published once."""
    _opened[who] += 1
    caller = CALLERS[who](place, f"{who}-{order['do']}-{_opened[who]}")
    if order["warm"]:
        caller.publish(WORD)
        caller.flush()
    count, rate, clock = order["count"], order["rate"], time.perf_counter_ns
    taken, publish, trouble = [0] * count, caller.publish, 0
    cpu, began = time.process_time(), time.perf_counter()
    for n in range(count):
        if rate and (wait := began + n / rate - time.perf_counter()) > 0:
            time.sleep(wait)
        before = clock()
        try:
            publish(WORD)
        except Exception:  # a peer's own: Redis does not answer
            trouble += 1
        taken[n] = clock() - before
    if order["flush"]:
        caller.flush()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    taken.sort()
    return {
        "calls": count,
        "failed": trouble,
        "us": statistics.median(taken) / 1e3,
        "p99_us": taken[int(count * 0.99)] / 1e3,
        "per_second": count / seconds,
        "cpu_us": cpu / count * 1e6,
    }


def main() -> None:
    who, given = sys.argv[1:]
    place = Place(**json.loads(given))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(carry_out(who, place, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
