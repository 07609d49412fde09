"""A viewer who comes when a stage has many tokens: messages and time until the whole text is there."""

import statistics

from benchmarks.context import Context, crowd_of
from benchmarks.peers.sources import Order
from benchmarks.reading import read_text

WORD = "abcd "
"""A token, or what one is made of."""
PATIENCE = 1.0
"""Seconds after which a viewer does not wait any longer for a text that nobody sends."""


async def run(context: Context) -> None:
    plan = context.plan
    for repetition, peer in context.turns("late", context.chosen()):
        if peer.key == "bare":
            continue
        with context.catching("late", peer):
            async with crowd_of(peer) as (setting, _):
                # where nothing is kept, the number of tokens makes no difference
                for tokens, size in plan.late if peer.keeps else plan.late[:1]:
                    topic, content = f"late{tokens}x{size}", WORD * (size // len(WORD))
                    await setting.publisher.tokens(Order([topic], tokens, content=content))
                    text = content * tokens
                    readings = []
                    for n in range(plan.joins + 1):
                        readings.append(read_text("127.0.0.1", setting.port, setting.path(topic), text, PATIENCE))
                        if not readings[-1].is_whole and n:
                            break
                    warm = readings[1:]
                    context.add(
                        "late",
                        peer.key,
                        repetition,
                        tokens=tokens,
                        characters=size,
                        is_whole=all(one.is_whole for one in warm),
                        messages=max(one.messages for one in warm),
                        first_ms=readings[0].seconds * 1e3,
                        ms=statistics.median(one.seconds for one in warm) * 1e3,
                    )
