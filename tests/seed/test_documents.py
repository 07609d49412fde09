"""The Chinese document and the page on moving: their Python compiles, their JSON parses, their links lead somewhere."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.zh-CN.md", ROOT / "docs" / "moving-from-core-redis.md"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SEED_TYPES = {"token", "stage_update", "progress", "done", "error", "connected", "stream_end"}


def blocks(language: str) -> list[tuple[str, str]]:
    """The blocks of a language in both pages, each with a name."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            if match[1] == language:
                line = text.count("\n", 0, match.start()) + 1
                found.append((f"{page.name}:{line}", match[2]))
    return found


@pytest.mark.parametrize("code", [pytest.param(code, id=name) for name, code in blocks("python")])
def test_python_compiles(code: str) -> None:
    """Every block is Python, and names nothing of core.redis."""
    ast.parse(code)
    assert "core.redis" not in code


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in blocks("json")])
def test_json_parses(text: str) -> None:
    """Every block is one message."""
    assert isinstance(json.loads(text)["type"], str)


def test_every_message_of_the_seed_is_shown() -> None:
    """The seven types, and more."""
    assert {json.loads(text)["type"] for _, text in blocks("json")} >= SEED_TYPES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links name files that are there."""
    for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_what_is_imported_exists() -> None:
    """Each name that a block imports from stagecast can be had."""
    for name, code in blocks("python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stagecast"):
                module = __import__(str(node.module), fromlist=["*"])
                for one in node.names:
                    assert hasattr(module, one.name), f"{name}: {one.name}"
