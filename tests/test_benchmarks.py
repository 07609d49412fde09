"""The benchmark's harness works: every measure gives figures, and the page is written. No speed is judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measures import MEASURES
from benchmarks.peers.table import PEERS
from benchmarks.sections import SECTIONS

ROOT = Path(__file__).parents[1]


@pytest.mark.timeout(300)
def test_every_measure_runs_and_the_page_is_written(tmp_path: Path) -> None:
    """With tiny loads every measure gives stagecast's figures, every peer that is installed takes part, nothing goes
    wrong or is lost, and the page has every section and its plots."""
    results, docs = tmp_path / "results.json", tmp_path / "docs"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--results", str(results), "--docs", str(docs)]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)

    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(results.read_text())
    rows = found["rows"]
    assert [row for row in rows if "trouble" in row] == []
    assert {row["measure"] for row in rows if row["peer"] == "stagecast"} == {*MEASURES, "burst"}
    assert {row["peer"] for row in rows if row["measure"] == "fan_out"} == PEERS.keys() - found["missing"].keys()
    assert {key for key in found["missing"] if PEERS[key].home == "own"} == set()
    assert sum(row["lost"] for row in rows if row["measure"] == "fan_out") == 0
    assert all(row["is_whole"] for row in rows if row["measure"] in {"late", "bytes"} and row["peer"] == "stagecast")
    page = (docs / "performance.md").read_text()
    assert [section.title for section in SECTIONS if f"## {section.title}\n" not in page] == []
    images = {f"performance-{plot}.svg" for one in SECTIONS for plot in one.plots}
    assert {one.name for one in (docs / "images").glob("*.svg")} == images
    assert [name for name in images if f"(images/{name})" not in page] == []
