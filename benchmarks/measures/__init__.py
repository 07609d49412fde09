"""The table of measures, in the order in which they run."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from benchmarks.context import Context

from . import calls, crowd, curves, fan_out, late, memory, stage_bytes, stalled, throughput

Run: TypeAlias = Callable[[Context], Awaitable[None]]

MEASURES: dict[str, Run] = {
    "fan_out": fan_out.run,
    "idle": memory.run,
    "late": late.run,
    "bytes": stage_bytes.run,
    "kept": stage_bytes.run_kept,
    "calls": calls.run,
    "throughput": throughput.run,
    "clients": curves.run_clients,
    "projects": curves.run_projects,
    "processes": curves.run_processes,
    "crowd": crowd.run,
    "stalled": stalled.run,
}
