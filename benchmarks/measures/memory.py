"""What an idle connection takes: how the server grows from a few viewers to many, who have seen one token each."""

from benchmarks.context import Context, crowd_of, topics_of
from benchmarks.processes import settled_memory
from benchmarks.servers import used_memory


async def run(context: Context) -> None:
    few, many = context.plan.idle
    topics = topics_of(context.plan.topics)
    for repetition, peer in context.turns("idle", context.chosen()):
        with context.catching("idle", peer):
            async with crowd_of(peer) as (setting, crowd):
                server = setting.servers[0]
                with setting.redis.client() as client:
                    await crowd.connect(few, topics, setting.path)
                    await setting.warm(crowd, topics)
                    before, redis_before = settled_memory(server, context.plan.settle), used_memory(client)
                    await crowd.connect(many - few, topics, setting.path)
                    await setting.warm(crowd, topics)
                    after, redis_after = settled_memory(server, context.plan.settle), used_memory(client)
                context.add(
                    "idle",
                    peer.key,
                    repetition,
                    bytes=(after - before) / (many - few),
                    redis_bytes=(redis_after - redis_before) / (many - few),
                )
