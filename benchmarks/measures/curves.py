"""How the cost of a delivery changes with the number of viewers, of projects and of server processes."""

from benchmarks.context import Context, crowd_of, topics_of
from benchmarks.delivering import deliver
from benchmarks.peers.sources import Order
from benchmarks.peers.table import Peer

OF_A_TOPIC = 100
"""Viewers of each topic while the number of viewers grows: the number of publishes a second stays the same."""
SEED_VIEWERS = 5000
"""Each takes two descriptors of the seed's server; more than this are beyond what a process may usually open."""
LEAST = 3
"""Tokens of a window at the least."""


async def run_clients(context: Context) -> None:
    plan = context.plan
    for viewers in plan.clients_curve:
        for repetition, peer in context.turns(
            f"clients {viewers}", _able(context, viewers, "stagecast", "seed", "bare"), plan.curve_repetitions
        ):
            load = viewers, max(viewers // OF_A_TOPIC, 1), plan.rate
            await _window(context, "clients", peer, repetition, load, viewers=viewers)


async def run_projects(context: Context) -> None:
    plan = context.plan
    for topics in plan.projects_curve:
        peers = _able(context, plan.projects_viewers, "stagecast", "seed")
        for repetition, peer in context.turns(f"projects {topics}", peers, plan.curve_repetitions):
            load = plan.projects_viewers, topics, plan.projects_rate
            await _window(context, "projects", peer, repetition, load, projects=topics)


async def run_processes(context: Context) -> None:
    """All of them on the servers' one core: what more processes cost, not what more cores give."""
    plan = context.plan
    for processes in plan.processes_curve:
        peers = context.chosen("stagecast", "seed")
        for repetition, peer in context.turns(f"processes {processes}", peers, plan.curve_repetitions):
            load = plan.viewers, plan.topics, plan.rate
            await _window(context, "processes", peer, repetition, load, processes=processes)


def _able(context: Context, viewers: int, *keys: str) -> list[Peer]:
    return [one for one in context.chosen(*keys) if one.key != "seed" or viewers <= SEED_VIEWERS]


async def _window(
    context: Context, measure: str, peer: Peer, repetition: int, load: tuple[int, int, float], **x: int
) -> None:
    """A window of `load`: viewers, topics and deliveries a second; `x` says where in the curve it stands."""
    viewers, topic_count, rate = load
    topics = topics_of(topic_count)
    tokens = rate * topic_count / viewers
    with context.catching(measure, peer):
        async with crowd_of(peer, x.get("processes", 1)) as (setting, crowd):
            await crowd.connect(viewers, topics, setting.path)
            await setting.warm(crowd, topics)
            count = max(int(tokens * context.plan.curve_seconds), LEAST)
            figures = await deliver(setting, crowd, Order(topics, count, tokens))
            connections = setting.redis_connections()
            context.add(measure, peer.key, repetition, **x, redis_connections=connections, **figures)
