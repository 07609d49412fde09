"""Ten thousand viewers on one server process."""

from benchmarks.context import Context, crowd_of, topics_of
from benchmarks.delivering import deliver
from benchmarks.peers.sources import Order
from benchmarks.processes import settled_memory


async def run(context: Context) -> None:
    plan = context.plan
    topics = topics_of(plan.crowd_topics)
    tokens = plan.crowd_rate * plan.crowd_topics / plan.crowd
    few = plan.crowd // 100
    peers = context.chosen("stagecast", "bare")
    for repetition, peer in context.turns("crowd", peers, plan.crowd_repetitions):
        with context.catching("crowd", peer):
            async with crowd_of(peer) as (setting, crowd):
                server = setting.servers[0]
                await crowd.connect(few, topics, setting.path)
                await setting.warm(crowd, topics)
                before = settled_memory(server, context.plan.settle)
                await crowd.connect(plan.crowd - few, topics, setting.path)
                await setting.warm(crowd, topics)
                idle = settled_memory(server, context.plan.settle)
                figures = await deliver(setting, crowd, Order(topics, int(tokens * plan.crowd_seconds), tokens))
                context.add(
                    "crowd",
                    peer.key,
                    repetition,
                    viewers=plan.crowd,
                    connections_lost=crowd.lost,
                    idle_bytes=(idle - before) / (plan.crowd - few),
                    active_bytes=(server.memory() - before) / (plan.crowd - few),
                    **figures,
                )
