"""The plots of the page, from the rows of a run."""

from . import plots
from .peers.table import PEERS
from .rows import Rows, median, select, values

KB = 1024
OWN = [PEERS["stagecast"].title, PEERS["stagecast-whole"].title]


def plots_of(rows: Rows) -> dict[str, str]:
    """The plots for which there are figures, by name."""
    drawn = {}
    fan_out, idle = select(rows, "fan_out"), select(rows, "idle")
    if fan_out:
        drawn["cpu"] = plots.bars(
            "Deliveries per CPU-second",
            "Tokens brought to viewers for a second of the server's processor time; longer is better",
            _by_peer(fan_out, "per_cpu_second"),
            OWN,
        )
        delays = {name: _by_peer(fan_out, name) for name in ("p50", "p99", "p999")}
        drawn["latency"] = plots.dots(
            "From publish_token to the viewer",
            "At the fixed rate; logarithmic, further left is better",
            {
                peer: {"p50": delays["p50"][peer], "p99": delays["p99"][peer], "p99.9": delays["p999"][peer]}
                for peer in delays["p50"]
            },
        )
    if idle:
        drawn["memory"] = plots.bars(
            "Memory of an idle connection, KB",
            "Of the server's process; shorter is better",
            {name: max(value, 0.0) / KB for name, value in _by_peer(idle, "bytes").items()},
            OWN,
        )
    for measure, x, x_name in (("clients", "viewers", "viewers"), ("projects", "projects", "projects")):
        if found := select(rows, measure):
            drawn[measure] = plots.lines(
                f"Processor time of a delivery over the number of {x_name}",
                "µs of the server's processor; lower is better",
                x_name,
                {
                    PEERS[key].title: [
                        (value, median([row for row in found if row["peer"] == key and row[x] == value], "cpu_us") or 0)
                        for value in values([row for row in found if row["peer"] == key], x)
                    ]
                    for key in values(found, "peer")
                },
            )
    return drawn


def _by_peer(rows: Rows, name: str) -> dict[str, float]:
    return {
        PEERS[key].title: median([row for row in rows if row["peer"] == key], name) or 0.0
        for key in values(rows, "peer")
    }
