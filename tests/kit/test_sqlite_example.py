"""examples/transport-sqlite, installed as users install it: stagecast finds and serves it, it keeps the contract."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.reading import rebuilt
from tests.sse.programs import BIN, SERVE, running

EXAMPLE = Path(__file__).parents[2] / "examples" / "transport-sqlite"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of programs that have the example's package before any other of its name."""
    source, target = tmp_path_factory.mktemp("source") / "it", tmp_path_factory.mktemp("installed")
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", "build"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(source)]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return {"PYTHONPATH": str(target)}


def said(environment: dict[str, str], *command: str) -> str:
    """What a program says that ends well."""
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def test_it_keeps_the_contract(environment: dict[str, str], tmp_path: Path) -> None:
    """Every guarantee but what needs an outage, which is told; each test's id names the bus."""
    shutil.copy(EXAMPLE / "tests" / "test_contract.py", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-rA", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout[-5000:]
    passed = [line for line in done.stdout.splitlines() if line.startswith("PASSED ")]
    assert {line.split("::test_")[1][:2] for line in passed} == {f"{number:02}" for number in range(1, 16)}
    assert all("[sqlite" in line for line in passed)
    assert "4 tests left out of sqlite: `faults` does not name outage" in done.stdout


def test_serve_publish_and_tail_know_it(environment: dict[str, str], tmp_path: Path) -> None:
    """`stagecast serve --bus sqlite:///x.db` serves what another process publishes to the file, and `tail` shows it."""
    bus = f"sqlite:///{tmp_path / 'x.db'}"
    stagecast = str(BIN / "stagecast")
    with running([*SERVE, "--bus", bus], environment) as server:
        said(environment, stagecast, "publish", "--bus", bus, "123", "rewrite", "token", "content=Hello")
        said(environment, stagecast, "publish", "--bus", bus, "123", "rewrite", "done")
        url = f"http://127.0.0.1:{server.port}/api/v1/sse/projects/123/stages/rewrite/?replay=latest"
        with httpx.Client(trust_env=False, timeout=20) as client:
            lines = client.get(url).text.splitlines()
    messages = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert [message["type"] for message in messages] == ["connected", "token", "done", "stream_end"]
    assert rebuilt(messages) == "Hello"
    shown = said(environment, stagecast, "tail", "--bus", bus, "--json", "--timeout", "20", "123", "rewrite")
    assert json.loads(shown.splitlines()[-1])["type"] == "done"
