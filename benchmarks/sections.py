"""The sections of the page: what each says, its table, its plots. `{...}` stands for a value of the plan."""

from typing import Any

from attrs import field, frozen

from .tables import (
    KB,
    Body,
    Column,
    bytes_table,
    calls_table,
    curve_table,
    late_table,
    peers_table,
    throughput_table,
)


def _one_line(text: str) -> str:
    return " ".join(text.split())


@frozen
class Section:
    """A part of the page."""

    title: str
    text: str = field(converter=_one_line)
    body: Body
    plots: tuple[str, ...] = ()

    def explain(self, plan: dict[str, Any]) -> str:
        """What was done, with the sizes of this run."""
        return self.text.format(**plan)


LATENCY = [Column("p50 ms", "p50", 1, -1), Column("p99 ms", "p99", 1, -1), Column("p99.9 ms", "p999", 1, -1)]
COST = [Column("deliveries per CPU-second", "per_cpu_second", 1, 1), Column("CPU µs each", "cpu_us", 1, -1)]
LOST = Column("lost", "lost", 1, -1)
SHARE = Column("load's core, %", "load_share", 100)
ACTIVE = Column("KB a connection", "active_bytes", 1 / KB, -1)
AT_REDIS = Column("connections at Redis", "redis_connections", 1, -1)

SECTIONS = (
    Section(
        "Deliveries at a fixed rate",
        """{viewers:,} viewers of {topics} topics, {rate:,} deliveries a second for {seconds:g} s: below what any of
        them can do, so that each delivery is a write of its own. The processor time is the server's, without Redis. The
        memory of an active connection is the server's growth from nobody to all, divided by all. The texts of this
        measure grow to about 1 KB; where text is longer, what sends the whole text pays more than here.""",
        peers_table("fan_out", [*COST, *LATENCY, ACTIVE, AT_REDIS, LOST, SHARE]),
        ("cpu", "latency"),
    ),
    Section(
        "A burst",
        """{burst} tokens a topic to the same viewers, as fast as the publisher can. stagecast joins what waits for a
        viewer into one write, the bare server does not; whoever drops what a slow viewer has not taken shows it under
        `lost`.""",
        peers_table("burst", [Column("deliveries a second", "per_second", 1, 1), *COST, LOST, SHARE]),
    ),
    Section(
        "Memory of idle connections",
        """The server's growth from {idle[0]:,} to {idle[1]:,} viewers who have seen a token and wait for the next.""",
        peers_table("idle", [Column("KB", "bytes", 1 / KB, -1), Column("KB at Redis", "redis_bytes", 1 / KB)]),
        ("memory",),
    ),
    Section(
        "A late viewer",
        """A viewer comes when a stage already has all these tokens, and nothing is published any more: from before the
        connection until the whole text is in the viewer's hands. `The first viewer` is the first of all, for whom the
        server has to ask Redis. `never`: what was published before is not shown. In the seed's design the next token
        would bring the whole text, if one comes.""",
        late_table,
    ),
    Section(
        "Bytes of one stage",
        """{stage:,} tokens of 5 characters to one viewer: one by one at {stage_rate:,} a second (`paced`), and as fast
        as possible (`burst`, where stagecast's publisher batches by itself). resumable-stream's first viewer gets its
        tokens without Redis.""",
        bytes_table,
    ),
    Section(
        "The worker's side",
        """`publish_token` in the caller: {calls:,} calls without a pause (the seed's design: {publishes:,}),
        {paced_calls} calls at {paced_rate} a second, both also by a publisher made while Redis stands still (SIGSTOP);
        `sustained`: {sustained:,} tokens until `flush()` returns. Redis has the servers' core here.""",
        calls_table,
    ),
    Section(
        "Publishing at the bus",
        """One process, one call awaited after another; batches of {batch}. In turn within each of {rounds} rounds.""",
        throughput_table,
    ),
    Section(
        "More viewers",
        """{rate:,} deliveries a second whatever the number of viewers, 100 viewers a topic. The seed's design needs two
        descriptors a viewer and ends at 5,000.""",
        curve_table("clients", "viewers", [*COST, *LATENCY, LOST, SHARE]),
        ("clients",),
    ),
    Section(
        "More projects",
        """{projects_viewers:,} viewers, {projects_rate:,} deliveries a second, spread over more and more projects: at
        the end each delivery is a publish of its own.""",
        curve_table("projects", "projects", [*COST, *LATENCY, AT_REDIS, LOST, SHARE]),
        ("projects",),
    ),
    Section(
        "More server processes",
        """{viewers:,} viewers spread over the processes, all on the servers' one core: what another process costs, not
        what another core gives. Each process takes every token in once.""",
        curve_table("processes", "processes", [*COST, *LATENCY, AT_REDIS, LOST]),
    ),
    Section(
        "Ten thousand viewers on one process",
        """{crowd:,} viewers of {crowd_topics} topics, {crowd_rate:,} deliveries a second for {crowd_seconds:g} s, one
        core.""",
        peers_table("crowd", [*COST, *LATENCY, Column("KB idle", "idle_bytes", 1 / KB, -1), ACTIVE, LOST, SHARE]),
    ),
    Section(
        "A viewer who stops reading",
        """{stall_viewers} viewers of one topic, {stall_rate} tokens a second of 521 bytes; the delays of the others
        before and after, and while one more viewer takes nothing and its buffers are full.""",
        peers_table(
            "stalled",
            [
                Column("p50 without, ms", "p50_without"),
                Column("p50 with", "p50_with"),
                Column("p99 without, ms", "p99_without"),
                Column("p99 with", "p99_with"),
                Column("lost", "lost"),
                Column("KB unsent", "unsent_bytes", 1 / KB),
            ],
        ),
    ),
)
