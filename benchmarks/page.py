"""docs/performance.md from the rows of a run: what was measured on what, tables, plots, and where a peer is ahead."""

from pathlib import Path
from typing import Any

from . import figures, plots
from .bounds import BOUNDS
from .markdown import table
from .peers.table import PEERS
from .sections import SECTIONS

NAME = "performance.md"
IMAGES = "images"


def write(results: dict[str, Any], docs: Path) -> None:
    """Write the page and its plots below `docs`."""
    images = docs / IMAGES
    images.mkdir(parents=True, exist_ok=True)
    for old in images.glob("performance-*.svg"):
        old.unlink()
    drawn = figures.plots_of(results["rows"])
    for name, svg in drawn.items():
        (images / f"performance-{name}.svg").write_text(svg)
    text = "\n".join(_parts(results, set(drawn)))
    for name in drawn:
        text = text.replace(f"[plot:{name}]", f"![{name}]({IMAGES}/performance-{name}.svg)")
    (docs / NAME).write_text(text)


def _parts(results: dict[str, Any], drawn: set[str]) -> list[str]:
    rows, plan = results["rows"], results["plan"]
    parts = [HEAD, _machine(results["machine"]), _peers(results["missing"]), _must_show(rows)]
    for section in SECTIONS:
        body = section.body(rows)
        if not body:
            continue
        parts += [f"## {section.title}", "", section.explain(plan), ""]
        parts += [f"[plot:{name}]\n" for name in section.plots if name in drawn]
        parts += [body, ""]
    troubles = [f"- {row['measure']}, {row['peer']}: {row['trouble']}" for row in rows if "trouble" in row]
    if troubles:
        parts += ["## What did not work", "", *dict.fromkeys(troubles), ""]
    return parts


HEAD = """# Performance

This page is written by `make bench`; don't edit it. How it is measured, and why so, is in
[ADR 0017](adr/0017-what-is-measured-and-how.md); all raw figures are in `benchmarks/results/latest.json`.
`make bench-check` judges the ratios, on any machine.
"""


def _machine(machine: dict[str, Any]) -> str:
    pinned = (
        f"The server under test has core {machine['server_core']} for itself; viewers, publisher and Redis share core "
        f"{machine['load_core']}."
        if machine["pinned"]
        else "There is one core only: nothing is pinned, and the load disturbs what it measures."
    )
    own, peers, npm = (_versions(machine[name]) for name in ("own", "peers", "npm"))
    return f"""## The machine

{machine["date"]}. {machine["processor"]}, {machine["cores"]} cores, {machine["memory_gib"]} GiB,
Linux {machine["kernel"]}, Python {machine["python"]}, Redis ({machine["redis"]}), node {machine["node"]}.
{pinned} Load average before the run: {machine["load_before"]:.2f}.

- stagecast's environment: {own}
- the peers': {peers}
- npm: {npm}

All ASGI servers are uvicorn with uvloop and httptools. Everything is on one machine and on loopback: no network is
measured. Figures are medians over the repetitions, in which the peers take turns. `(busy)` marks figures whose load was
itself above 90 % of its core.
"""


def _versions(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items() if version)


def _peers(missing: dict[str, list[str]]) -> str:
    rows = [[peer.title, peer.note] for peer in PEERS.values()]
    absent = [f"\nNot measured: {key} ({', '.join(names)} not installed)." for key, names in missing.items()]
    return "\n".join(["## Who is compared", "", table(["", "what it is"], rows), *absent, ""])


def _must_show(rows: list[dict[str, Any]]) -> str:
    lines = []
    for bound in BOUNDS:
        value = bound.value(rows)
        verdict = "not measured" if value is None else "yes" if bound.holds(value) else "**no**"
        kind = "yes" if bound.is_judged else ""
        lines.append([bound.text, "" if value is None else plots.number(value), bound.limit, verdict, kind])
    return "\n".join(
        ["## What it must show", "", table(["", "measured", "bound", "reached", "in `bench-check`"], lines), ""]
    )
