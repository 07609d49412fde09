"""docs/guarantees.md promises nothing without a proof, and what it links is there."""

import re

import pytest

from tests.citations import ROOT, cited_in, is_a_test

PAGE = ROOT / "docs" / "guarantees.md"
TEXT = PAGE.read_text(encoding="utf-8")
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith(("| while |", "| ---"))]


@pytest.mark.parametrize("citation", cited_in(TEXT))
def test_a_cited_test_exists(citation: str) -> None:
    """A renamed test is renamed on the page too."""
    assert is_a_test(citation)


def test_a_row_has_a_test() -> None:
    """Each promise, under each failure."""
    assert len(ROWS) > 25
    for row in ROWS:
        assert row.count("|") == 4, row
        assert "::test_" in row.rpartition("|")[0].rpartition("|")[2], row


def test_links_lead_somewhere() -> None:
    """Pages that the page names are there."""
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (PAGE.parent / link).exists(), link
