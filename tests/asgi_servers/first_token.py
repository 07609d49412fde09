"""How long a token takes from its publish to the client under each server: `python -m tests.asgi_servers.first_token`.

Each figure is one process publishing through a real Redis, one server process, one client; the machine should be idle.
"""

import asyncio
import statistics
import sys
import time

from stagecast import RedisStreamPublisher
from tests.asgi_servers.launching import COMMANDS, server_of
from tests.servers import available_redis_kinds, start_redis
from tests.sse.browser import request, stage_path

ROUNDS = 20
TOKENS = 50


async def measured(port: int, bus: str) -> tuple[list[float], list[float]]:
    """Milliseconds of the first token of each of several streams, and of the tokens after the first."""
    first: list[float] = []
    later: list[float] = []
    for number in range(ROUNDS):
        project = f"p{number}"
        async with request(port, stage_path(project)) as browser:
            await browser.next()
            with RedisStreamPublisher(project, "rewrite", bus=bus) as publisher:
                for token in range(TOKENS):
                    published = time.perf_counter()
                    publisher.publish_token("x")
                    await browser.next()
                    took = 1000 * (time.perf_counter() - published)
                    (later if token else first).append(took)
    return first, later


def main() -> int:
    print(f"{'milliseconds':12} {'first: median':>14} {'worst':>7} {'later: median':>15} {'worst':>7}")
    for name in COMMANDS:
        with start_redis(available_redis_kinds()[0]) as redis, server_of(name, redis.url) as server:
            first, later = asyncio.run(measured(server.port, redis.url))
        print(
            f"{name:12} {statistics.median(first):14.1f} {max(first):7.1f}"
            f" {statistics.median(later):15.1f} {max(later):7.1f}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
