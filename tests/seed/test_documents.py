"""The documents as a whole: Python compiles, JSON parses, links lead somewhere, and every block is run."""

import ast
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.seed.documents import PAGES, Block, blocks

SEED_TYPES = {"token", "stage_update", "progress", "done", "error", "connected", "stream_end"}
RUN_BY = {
    "python": "tests/seed/test_document_python.py",
    "toml": "tests/seed/test_document_python.py",
    "json": "tests/seed/test_document_data.py",
    "nginx": "tests/seed/test_document_data.py",
    "diff": "tests/seed/test_document_data.py",
    "bash": "tests/seed/test_document_shell.py",
    "console": "tests/seed/test_document_shell.py",
    "http": "tests/seed/test_document_shell.py",
    "conf": "tests/seed/test_document_shell.py",
}
"""Languages whose blocks are all taken by one test, which fails for one that it does not know."""
RUN_IN_A_BROWSER = {
    ("README.zh-CN.md", "javascript"): 1,
    ("README.zh-CN.md", "vue"): 1,
    ("README.md", "javascript"): 1,
}
"""Blocks that tests/browser takes from the page: origin.py and test_vue.py."""
NOT_CODE = {("README.zh-CN.md", ""): 2}
"""A drawing, and the pattern of a channel's name."""


def params(language: str) -> list[object]:
    return [pytest.param(block, id=block.name) for block in blocks(language)]


@pytest.mark.parametrize("block", params("python"))
def test_python_compiles(block: Block) -> None:
    """Every block is Python, and names nothing of core.redis."""
    ast.parse(block.text)
    assert "core.redis" not in block.text


@pytest.mark.parametrize("block", params("json"))
def test_json_parses(block: Block) -> None:
    """Every block is one message."""
    assert isinstance(json.loads(block.text)["type"], str)


def test_every_message_of_the_seed_is_shown() -> None:
    """The seven types, and more."""
    assert {json.loads(block.text)["type"] for block in blocks("json")} >= SEED_TYPES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links name files that are there."""
    for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_what_is_imported_exists() -> None:
    """Each name that a block imports from stagecast can be had."""
    for block in blocks("python"):
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stagecast"):
                module = __import__(str(node.module), fromlist=["*"])
                for one in node.names:
                    assert hasattr(module, one.name), f"{block.name}: {one.name}"


def test_every_block_is_run_by_somebody() -> None:
    """A new block fails here until a test takes it."""
    others = Counter((block.page, block.language) for block in blocks() if block.language not in RUN_BY)
    assert others == RUN_IN_A_BROWSER | NOT_CODE
