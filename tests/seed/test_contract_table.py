"""docs/seed-contract.md cites tests that exist, decisions that exist, and modules that exist."""

import re

import pytest

from tests.citations import ROOT, cited_in, is_a_test

PAGE = ROOT / "docs" / "seed-contract.md"
TEXT = PAGE.read_text(encoding="utf-8")
ROWS = [
    line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith(("| the seed says", "| ---"))
]


@pytest.mark.parametrize("citation", cited_in(TEXT))
def test_a_cited_test_exists(citation: str) -> None:
    """A renamed test is renamed in the table too."""
    assert is_a_test(citation)


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
