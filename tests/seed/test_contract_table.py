"""docs/seed-contract.md cites tests that exist, decisions that exist, and modules that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "seed-contract.md"
TEXT = PAGE.read_text(encoding="utf-8")
CITED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)`", TEXT)))
ROWS = [
    line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith(("| the seed says", "| ---"))
]


@cache
def functions_of(path: Path) -> set[str]:
    """The tests of a module by name, those of classes with and without their class."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        for one in inner:
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(one.name)
                if isinstance(node, ast.ClassDef):
                    found.add(f"{node.name}::{one.name}")
    return found


@pytest.mark.parametrize(("file", "name"), CITED)
def test_a_cited_test_exists(file: str, name: str) -> None:
    """A renamed test is renamed in the table too."""
    assert name.rpartition("::")[2].startswith("test_")
    assert name in functions_of(ROOT / file)


def test_a_row_has_a_test_or_says_that_it_waits() -> None:
    """Nothing is promised without a proof."""
    assert len(ROWS) > 40
    for row in ROWS:
        assert row.count("|") == 5, row
        assert "::test_" in row or "**not yet**" in row, row


def test_links_and_modules_exist() -> None:
    """Decisions, pages and modules that the table names are there."""
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (PAGE.parent / link).exists(), link
    for module in re.findall(r"`((?:adapters|domain|entrypoints)[\w/.]*)`", TEXT):
        assert (ROOT / "src" / module).exists(), module
