"""Many viewers of a few topics: what a delivery costs and how long it takes at a fixed rate; then a burst."""

from benchmarks.context import Context, crowd_of, topics_of
from benchmarks.delivering import deliver
from benchmarks.peers.sources import Order


async def run(context: Context) -> None:
    plan = context.plan
    topics = topics_of(plan.topics)
    tokens = plan.rate * plan.topics / plan.viewers
    """A second, over all topics: each of them goes to a topic's share of the viewers."""
    for repetition, peer in context.turns("fan_out", context.chosen()):
        with context.catching("fan_out", peer):
            async with crowd_of(peer) as (setting, crowd):
                empty = sum(one.memory() for one in setting.servers)
                await crowd.connect(plan.viewers, topics, setting.path)
                await setting.warm(crowd, topics)
                connections = setting.redis_connections()
                await deliver(setting, crowd, Order(topics, max(int(tokens), 1), tokens))  # what compiles, compiles now
                figures = await deliver(setting, crowd, Order(topics, int(tokens * plan.seconds), tokens))
                full = sum(one.memory() for one in setting.servers)
                context.add(
                    "fan_out",
                    peer.key,
                    repetition,
                    redis_connections=connections,
                    active_bytes=(full - empty) / plan.viewers,
                    **figures,
                )
                figures = await deliver(setting, crowd, Order(topics, plan.burst * plan.topics))
                context.add("burst", peer.key, repetition, **figures)
