"""Runs the measures and writes the page.

python -m benchmarks            everything: benchmarks/results/latest.json, docs/performance.md and its images
python -m benchmarks --check    the regression guard: exit code 1 where a bound is missed
python -m benchmarks --quick    everything with tiny loads: whether the harness works
python -m benchmarks --page     write the page again from the results that are there
"""

import argparse
import asyncio
import contextlib
import json
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop
from attrs import asdict, evolve

from . import checking, machine, page
from .context import Context, peers_here
from .measures import MEASURES
from .peers.table import ROOT
from .plan import CHECK, FULL, QUICK, Plan
from .processes import LOAD_CORE, pin
from .servers import redis_server

FOLDER = ROOT / "benchmarks/results"
DOCS = ROOT / "docs"


def main() -> int:
    options = _options()
    results_file: Path = options.results or FOLDER / ("check.json" if options.check else "latest.json")
    if options.page:
        results: dict[str, Any] = json.loads(results_file.read_text())
        page.write(results, options.docs)
        return 0
    plan = _plan(options)
    _allow_many_files()
    pin(0, LOAD_CORE)
    try:
        results = uvloop.run(_run(plan))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped: everything that was started has been ended", file=sys.stderr)
        return 130
    results_file.parent.mkdir(parents=True, exist_ok=True)
    results_file.write_text(json.dumps(results, indent=1) + "\n")
    if plan.name == CHECK.name:
        lines, good = checking.judge(results["rows"])
        print("\n".join(lines))
        return 0 if good else 1
    page.write(results, options.docs)
    print(f"{results_file} and {options.docs / page.NAME} are written", file=sys.stderr)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures stagecast beside its peers.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="judge the ratios; exit code 1 where one is missed")
    what.add_argument("--quick", action="store_true", help="tiny loads: whether the harness works")
    what.add_argument("--page", action="store_true", help="write the page from the results that are there")
    parser.add_argument("--measures", default="", help=f"some of {','.join(MEASURES)}")
    parser.add_argument("--peers", default="", help="some of the peers (benchmarks/peers/table.py)")
    parser.add_argument("--repetitions", type=int, help="of each peer, instead of the plan's: fewer on a busy day")
    parser.add_argument("--results", type=Path, help="the JSON file (default: below benchmarks/results)")
    parser.add_argument("--docs", type=Path, default=DOCS, help="the page's folder (default: %(default)s)")
    return parser.parse_args()


def _plan(options: argparse.Namespace) -> Plan:
    plan = CHECK if options.check else QUICK if options.quick else FULL
    if options.measures:
        plan = evolve(plan, measures=tuple(options.measures.split(",")))
    if options.peers:
        plan = evolve(plan, peers=tuple(options.peers.split(",")))
    if times := options.repetitions:
        plan = evolve(plan, repetitions=times, curve_repetitions=times, crowd_repetitions=times)
    return plan


async def _run(plan: Plan) -> dict[str, Any]:
    peers, missing = peers_here(plan.peers)
    context = Context(plan, peers)
    for key, names in missing.items():
        context.tell(f"{key} is not measured: {', '.join(names)} not installed (make bench-setup)")
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with redis_server() as redis, redis.client() as client:
        described = machine.describe(f"{redis.kind}: {client.info('server')['redis_version']}")
    for name in plan.measures or MEASURES:
        await MEASURES[name](context)
        context.peers = [one for one in context.peers if one.key in (plan.later_peers or [one.key])]
    return {
        "plan": asdict(plan),
        "machine": described,
        "missing": missing,
        "rows": context.rows,
    }


def _allow_many_files() -> None:
    """Ten thousand viewers are as many descriptors, here and in the server."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(main())
