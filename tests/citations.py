"""Tests that documents cite, as `path::name` or `path::Class::name`."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


def cited_in(text: str) -> list[str]:
    """All citations of a page, each once."""
    return sorted(set(re.findall(r"`((?:tests|src)/[\w/]+\.py::[\w:]+)`", text)))


def is_a_test(citation: str) -> bool:
    """Whether the file has such a test."""
    path, _, name = citation.partition("::")
    return name.rpartition("::")[2].startswith("test_") and name in _tests_of(path)


@cache
def _tests_of(path: str) -> set[str]:
    """The tests of a module by name, those of classes with and without their class."""
    found = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        for one in inner:
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(one.name)
                if isinstance(node, ast.ClassDef):
                    found.add(f"{node.name}::{one.name}")
    return found
