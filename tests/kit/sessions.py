"""Sessions of pytest in which a class of contract tests is run as in another project, and what they said."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run(pytester: pytest.Pytester, module: str, name: str, *options: str) -> pytest.RunResult:
    """The session of a project that has stagecast installed and nothing configured, for a class of a module here."""
    pytester.makeini("[pytest]")
    return pytester.runpytest_inprocess(
        "-c", "tox.ini", "--rootdir", str(HERE), "-p", "no:cacheprovider", "--import-mode=importlib",
        f"{HERE / module}::{name}", *options,
    )  # fmt: skip


def failed(result: pytest.RunResult) -> list[str]:
    """The tests that failed, without parameters."""
    lines = [line for line in result.outlines if line.startswith("FAILED ")]
    return [line.split("[")[0].split("::")[-1] for line in lines]


def numbers(result: pytest.RunResult) -> set[int]:
    """The guarantees whose tests failed."""
    return {int(name[5:7]) for name in failed(result)}
