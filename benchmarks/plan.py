"""How large the loads are: for the page, for the regression guard, and for a try of the harness itself."""

from attrs import evolve, frozen


@frozen(kw_only=True)
class Plan:
    """The sizes of one run. Rates are a second; texts are counted in characters."""

    name: str
    measures: tuple[str, ...] = ()
    """Which to run; empty for all."""
    peers: tuple[str, ...] = ()
    """Which to compare; empty for all."""
    later_peers: tuple[str, ...] = ()
    """Which to compare after the first measure; empty for the same."""
    repetitions: int = 3
    """Of each peer, in turn."""

    viewers: int = 1000
    topics: int = 10
    rate: int = 10_000
    """Deliveries over all viewers."""
    seconds: float = 4.0
    burst: int = 200
    """Tokens of each topic."""

    idle: tuple[int, int] = (100, 2000)
    settle: float = 5.0
    """Seconds that a server's memory gets to come to rest, at the most."""

    late: tuple[tuple[int, int], ...] = ((1000, 5), (1000, 500), (100_000, 5))
    """The stages that a late viewer joins: tokens, and characters of each. The last two have the same text."""
    joins: int = 30

    stage: int = 4000
    """Tokens of the stage whose bytes are counted."""
    stage_rate: int = 1000
    kept: int = 8000

    calls: int = 20_000
    paced_calls: int = 300
    paced_rate: int = 100
    sustained: int = 100_000
    stopped_calls: int = 1
    """Of the seed's publisher while Redis stands still: each waits for its time-out, 5 s."""

    rounds: int = 5
    """Of the publish throughput and of the stalled viewer, which alternate by themselves."""
    publishes: int = 2000
    batch: int = 200
    batched: int = 20_000

    clients_curve: tuple[int, ...] = (100, 300, 1000, 3000, 10_000)
    projects_curve: tuple[int, ...] = (1, 10, 100, 1000, 5000)
    projects_viewers: int = 5000
    projects_rate: int = 2500
    processes_curve: tuple[int, ...] = (1, 2)
    curve_seconds: float = 3.0
    curve_repetitions: int = 2

    crowd: int = 10_000
    crowd_topics: int = 200
    crowd_rate: int = 20_000
    crowd_seconds: float = 5.0
    crowd_repetitions: int = 2

    stall_viewers: int = 200
    stall_rate: int = 50
    """Tokens of the one topic."""
    stall_seconds: float = 4.0


FULL = Plan(name="full")

CHECK = Plan(
    name="check",
    measures=("fan_out", "idle", "late", "bytes", "throughput", "stalled"),
    peers=("stagecast", "seed", "bare"),
    seconds=3.0,
    burst=50,
    idle=(100, 1000),
    joins=20,
    stage_rate=2000,
    rounds=5,
    stall_seconds=3.0,
)

QUICK = evolve(
    FULL,
    name="quick",
    later_peers=("stagecast", "seed"),
    repetitions=1,
    viewers=10,
    topics=2,
    rate=100,
    seconds=0.2,
    burst=3,
    idle=(4, 12),
    settle=0.1,
    late=((20, 5), (20, 50), (200, 5)),
    joins=2,
    stage=50,
    stage_rate=1000,
    kept=100,
    calls=50,
    paced_calls=5,
    sustained=500,
    stopped_calls=0,
    rounds=1,
    publishes=20,
    batch=10,
    batched=50,
    clients_curve=(10,),
    projects_curve=(4,),
    processes_curve=(2,),
    projects_viewers=8,
    projects_rate=100,
    curve_seconds=0.2,
    curve_repetitions=1,
    crowd=40,
    crowd_topics=4,
    crowd_rate=200,
    crowd_seconds=0.2,
    crowd_repetitions=1,
    stall_viewers=4,
    stall_seconds=0.2,
)
