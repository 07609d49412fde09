"""What the figures were taken on: machine, kernel, programs and packages."""

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .peers.table import NODE_FOLDER, PEERS_PYTHON, installed, node
from .processes import CORES, IS_PINNED, LOAD_CORE, SERVER_CORE

OURS = ("stagecast", "uvicorn", "starlette", "uvloop", "httptools", "redis", "hiredis", "orjson", "anyio")
THEIRS = (
    *("sse-starlette", "django-eventstream", "django", "flask-sse", "flask", "gunicorn", "gevent"),
    *("uvicorn", "starlette", "uvloop", "httptools", "redis", "hiredis"),
)


def describe(redis_version: str) -> dict[str, Any]:
    """As it goes into the results."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": len(CORES),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "pinned": IS_PINNED,
        "server_core": SERVER_CORE,
        "load_core": LOAD_CORE,
        "load_before": os.getloadavg()[0],
        "redis": redis_version,
        "node": _node_version(),
        "own": _of(installed(Path(sys.executable)), OURS),
        "peers": _of(installed(PEERS_PYTHON), THEIRS),
        "npm": {name: _npm_version(name) for name in ("resumable-stream", "redis")},
    }


def _of(present: dict[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: present[name] for name in names if name in present}


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _node_version() -> str:
    program = node()
    if program is None:
        return ""
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def _npm_version(name: str) -> str:
    manifest = NODE_FOLDER / "node_modules" / name / "package.json"
    found = re.search(r'"version": "([^"]+)"', manifest.read_text()) if manifest.exists() else None
    return found[1] if found else ""
