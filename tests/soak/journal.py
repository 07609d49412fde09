"""What publishers say of themselves: each token before it is handed over, each acknowledgement after it was given.

One file a process, one line an entry, written past every buffer, so that SIGKILL takes nothing of it away.
"""

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import Factory, define

from stagecast.domain.text import units


class Journal:
    """Appends entries to a file. Threads may share it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, key: str, **fields: Any) -> None:
        """An entry about the text `key`. A write to an O_APPEND file is not torn by other threads."""
        line = json.dumps({"key": key, "at": time.time(), **fields}, ensure_ascii=False, separators=(",", ":"))
        os.write(self._file, line.encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)


@define
class Handed:
    """One text, of one run or attempt: what its publisher handed over, and what it was told was acknowledged."""

    key: str
    project: str
    stage: str
    began: float
    pid: int = 0
    tokens: list[str] = Factory(list)
    items: list[int] = Factory(list)
    acknowledged: list[tuple[float, int]] = Factory(list)
    """When `flush` or the end returned True, and the length (UTF-16) and with it everything before."""
    end: str | None = None
    """done, error or cancelled, as soon as it is about to be handed over."""
    end_acknowledged: bool = False
    is_superseded: bool = False
    """Whether the publisher was told that a newer run or attempt has taken over."""
    over: float | None = None
    """When the publisher held it no more: closed, everything delivered."""

    @property
    def run(self) -> str:
        """What the attempts of one task have in common."""
        return self.key.partition("-")[0]

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def demanded(self) -> int:
        """The length that every viewer must have seen at the end of the run."""
        return max((length for _, length in self.acknowledged), default=0)


def read(lines: Iterable[str]) -> dict[str, Handed]:
    """The texts of a journal's lines; a last line that a kill has cut off is left out."""
    found: dict[str, Handed] = {}
    lengths: dict[str, int] = {}
    for line in lines:
        if not line.endswith("\n"):
            break
        match json.loads(line):
            case {"key": key, "project": project, "stage": stage, "pid": pid, "at": at}:
                found[key] = Handed(key, project, stage, at, pid)
                lengths[key] = 0
            case {"key": key, "token": content}:
                found[key].tokens.append(content)
                lengths[key] += units(content)
            case {"key": key, "refused": "token"}:
                lengths[key] -= units(found[key].tokens.pop())
            case {"key": key, "item": number}:
                found[key].items.append(number)
            case {"key": key, "refused": "item"}:
                found[key].items.pop()
            case {"key": key, "acknowledged": "text", "at": at}:
                found[key].acknowledged.append((at, lengths[key]))
            case {"key": key, "acknowledged": "end", "at": at}:
                found[key].acknowledged.append((at, lengths[key]))
                found[key].end_acknowledged = True
            case {"key": key, "end": end}:
                found[key].end = end
            case {"key": key, "superseded": True}:
                found[key].is_superseded = True
            case {"key": key, "over": True, "at": at}:
                found[key].over = at
            case entry:
                raise ValueError(f"no entry of a journal: {entry}")
    return found


def read_folder(folder: Path, pattern: str = "*.journal") -> dict[str, Handed]:
    """The texts of all journals of a folder."""
    found: dict[str, Handed] = {}
    for path in sorted(folder.glob(pattern)):
        with path.open(encoding="utf-8") as lines:
            found |= read(lines)
    return found
