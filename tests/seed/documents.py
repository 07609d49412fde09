"""The code blocks of the documents: where each stands, and its text."""

import re
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[2]
CHINESE = ROOT / "README.zh-CN.md"
PAGES = (CHINESE, ROOT / "docs" / "moving-from-core-redis.md", ROOT / "README.md")

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@frozen
class Block:
    """One fenced block."""

    page: str
    line: int
    """Of its first line of text."""
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> Iterator[Block]:
    """The blocks of `languages` in all pages, or all blocks."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            if not languages or match[1] in languages:
                yield Block(page.name, text.count("\n", 0, match.start()) + 2, match[1], match[2])


def the_block(language: str, page: Path = CHINESE) -> Block:
    """The only one of its language on a page."""
    (block,) = [one for one in blocks(language) if one.page == page.name]
    return block
