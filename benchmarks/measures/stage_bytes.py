"""What one stage of short tokens sends to Redis and to a viewer, and what Redis keeps of it."""

import asyncio

from benchmarks.context import Context, crowd_of
from benchmarks.peers.sources import Order
from benchmarks.reading import read_text

WORD = "abcd "
STANDING_SECONDS = 1.0
"""That a viewer gets to stand: not every peer says when it does."""
READING_SECONDS = 60.0


async def run(context: Context) -> None:
    plan = context.plan
    text = WORD * plan.stage
    peers = [one for one in context.chosen() if one.key != "bare"]
    for repetition, peer in context.turns("bytes", peers, 1):
        with context.catching("bytes", peer):
            async with crowd_of(peer) as (setting, _):
                for pace, rate in (("paced", plan.stage_rate), ("burst", 0)):
                    if pace == "burst" and not peer.is_own:
                        continue  # without batches it is the same
                    path = setting.path(pace)
                    reading = asyncio.create_task(
                        asyncio.to_thread(read_text, "127.0.0.1", setting.port, path, text, READING_SECONDS)
                    )
                    await asyncio.sleep(STANDING_SECONDS)
                    with setting.redis.client() as client:
                        before = client.info("stats")
                        await setting.publisher.tokens(Order([pace], plan.stage, rate, WORD))
                        after = client.info("stats")
                    got = await reading
                    context.add(
                        "bytes",
                        peer.key,
                        repetition,
                        pace=pace,
                        is_whole=got.is_whole,
                        messages=got.messages,
                        wire_bytes=got.bytes,
                        redis_input=after["total_net_input_bytes"] - before["total_net_input_bytes"],
                        redis_output=after["total_net_output_bytes"] - before["total_net_output_bytes"],
                    )


async def run_kept(context: Context) -> None:
    """What a token takes in Redis as long as it is kept."""
    tokens = context.plan.kept
    for repetition, peer in context.turns("kept", context.chosen("stagecast"), 1):
        with context.catching("kept", peer):
            async with crowd_of(peer) as (setting, _):
                await setting.publisher.tokens(Order(["kept"], tokens, content=WORD))
                with setting.redis.client() as client:
                    sizes = {key: client.memory_usage(key, samples=0) or 0 for key in client.scan_iter()}
                    context.add(
                        "kept",
                        peer.key,
                        repetition,
                        tokens=tokens,
                        keys=len(sizes),
                        bytes=sum(sizes.values()) / tokens,
                    )
