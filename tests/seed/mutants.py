"""Removes each promise of docs/seed-contract.md in turn, in a copy of the repository, and sees its test fail.

    python -m tests.seed.mutants                  all
    python -m tests.seed.mutants nginx listen     those with one of these texts in their row, file or test

A mutant is caught where the named test passes on the copy as it is, and fails on the copy without the promise.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from attrs import field, frozen

from .mutant import Mutant
from .removals_python import OF_PYTHON
from .removals_serving import OF_SERVING

MUTANTS = [*OF_PYTHON, *OF_SERVING]
NOTHING_TO_REMOVE = {
    "the parameters for a client of one's own": "they are redis-py's own",
    "`redis-cli ping`": "it is Redis that answers",
}
"""Rows without a mutant, and why."""

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "seed-contract.md"
AT_ONCE = 2
SECONDS = 90
"""That one run of a test may take."""
LEFT_OUT = (".git", ".venv", "node_modules", "__pycache__", "dist", ".*_cache", ".hypothesis")
LINKED = (".venv", "examples/vue/node_modules")
FAILED = 1
"""pytest's exit code where tests ran and failed; 2, 4 and 5 say that none ran."""


@frozen
class Row:
    """A promise, and the tests that the table names for it, those of the column "proved by" first."""

    promise: str
    tests: tuple[str, ...]

    def test_for(self, mutant: Mutant) -> str:
        """The test that has to fail. Raises LookupError."""
        for test in self.tests:
            if mutant.test is None or test.endswith(f"::{mutant.test}"):
                return test
        raise LookupError(f"{mutant.test} is no test of the row {self.promise!r}")


def rows() -> list[Row]:
    """The table's rows."""
    found = []
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("| ") and not line.startswith(("| the seed says", "| ---")):
            promise, _, proofs, better = (cell.strip() for cell in line.strip("|").split("|"))
            found.append(Row(promise, tuple(re.findall(r"`(tests/[\w/]+\.py::[\w:]+)`", proofs + better))))
    return found


def row_of(start: str) -> Row:
    """The row whose promise is `start`, or else the only one whose promise starts so. Raises LookupError."""
    matching = [row for row in rows() if row.promise.startswith(start)]
    exact = [row for row in matching if row.promise == start]
    if len(exact or matching) != 1:
        raise LookupError(f"{start!r} names {len(matching)} rows")
    return (exact or matching)[0]


@frozen
class Result:
    """What became of a mutant."""

    mutant: Mutant
    test: str
    outcome: str
    seconds: float
    output: str = field(repr=False)


class Laboratory:
    """A copy of the repository whose tests pass, and of it a copy for each mutant."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pristine = folder / "pristine"
        self._passing: dict[str, threading.Lock | str] = {}
        self._lock = threading.Lock()
        shutil.copytree(ROOT, self._pristine, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
        # Before the installed package, for this process and for all that tests start; `tests` is found here too.
        (self._pristine / "stagecast").symlink_to("src")
        _link(self._pristine)
        where = [sys.executable, "-c", "import stagecast; print(stagecast.__file__)"]
        found = subprocess.run(where, cwd=folder, env=_environment(self._pristine), capture_output=True, text=True)
        if not found.stdout.startswith(str(self._pristine)):
            raise RuntimeError(f"the installed package hides the copy: {found.stdout}{found.stderr}")

    def result_of(self, mutant: Mutant) -> Result:
        """Try `mutant`."""
        began = time.monotonic()
        test = row_of(mutant.row).test_for(mutant)
        outcome, output = self._before(test), ""
        if outcome == "passes":
            with self._copy() as copy:
                changed = copy / mutant.path
                text = changed.read_text("utf-8")
                assert text.count(mutant.old) == 1, mutant
                changed.write_text(text.replace(mutant.old, mutant.new), "utf-8")
                code, output = _tested(copy, test)
            if code == 0:
                outcome = "SURVIVES"
            else:  # an error of a fixture is exit code 1 too, and no proof
                outcome = "caught" if code == FAILED and _reason(output) else f"NOT RUN ({code})"
        else:
            outcome, output = "FAILS ANYWAY", outcome
        return Result(mutant, test, outcome, time.monotonic() - began, output)

    def _before(self, test: str) -> str:
        """`passes`, or what the test says on the copy as it is. Asked once a test."""
        with self._lock:
            known = self._passing.setdefault(test, threading.Lock())
        if isinstance(known, str):
            return known
        with known:
            now = self._passing[test]
            if not isinstance(now, str):
                code, output = _tested(self._pristine, test)
                now = self._passing[test] = "passes" if code == 0 else output
            return now

    @contextmanager
    def _copy(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            copy = Path(folder) / "mutant"
            ignored = shutil.ignore_patterns("__pycache__", *LINKED, "node_modules")
            shutil.copytree(self._pristine, copy, symlinks=True, ignore=ignored)
            _link(copy)
            yield copy


def _link(copy: Path) -> None:
    for path in LINKED:
        if (ROOT / path).exists():
            (copy / path).symlink_to((ROOT / path).resolve())


def _environment(copy: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(copy), "COLUMNS": "250"}


def _tested(copy: Path, test: str) -> tuple[int, str]:
    file, _, name = test.partition("::")
    for node in ast.parse((copy / file).read_text("utf-8")).body:  # the table leaves the class out
        if isinstance(node, ast.ClassDef) and name in {getattr(one, "name", None) for one in node.body}:
            test = f"{file}::{node.name}::{name}"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout", "60", test]
    try:
        done = subprocess.run(
            command, cwd=copy, env=_environment(copy), capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return -1, f"longer than {SECONDS} s"
    return done.returncode, done.stdout + done.stderr


def _reason(output: str) -> str:
    """Why the test failed, in pytest's words; nothing where it did not."""
    failed = [line for line in output.splitlines() if line.startswith("FAILED ")]
    return failed[0].partition(" - ")[2][:100] or "failed" if failed else ""


def main(wanted: Sequence[str]) -> int:
    """Try the mutants and print what became of each; 1 where one survives."""
    chosen = [
        mutant
        for mutant in MUTANTS
        if not wanted
        or any(text in f"{mutant.row}|{mutant.path}|{row_of(mutant.row).test_for(mutant)}" for text in wanted)
    ]
    uncaught = 0
    with tempfile.TemporaryDirectory(prefix="stagecast-mutants-") as folder:
        laboratory = Laboratory(Path(folder))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            tried = [pool.submit(laboratory.result_of, mutant) for mutant in chosen]
            for number, one in enumerate(as_completed(tried), 1):
                result = one.result()
                mutant = result.mutant
                print(
                    f"{number:3}/{len(chosen)} {result.outcome:12} {result.seconds:4.0f} s  {mutant.row[:60]!r}\n"
                    f"        {mutant.path}: {mutant.old.strip().splitlines()[0][:90]}\n        {result.test}",
                    flush=True,
                )
                if result.outcome == "caught":
                    print(f"        {_reason(result.output)}", flush=True)
                else:
                    uncaught += 1
                    print("\n".join(result.output.splitlines()[-15:]), flush=True)
    print(f"{len(chosen) - uncaught} of {len(chosen)} mutants are caught")
    return 1 if uncaught or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
