"""A publisher in a process of its own: it streams until SIGTERM, then ends with `done`, and keeps a journal.

At SIGUSR1 it ends without an end, as a program that returns too early does.

    python -m tests.faults.writer PROJECT

The bus and its limits come from the environment. Each line of the journal, on standard output, is JSON: a piece that
the publisher has accepted, the number of pieces that the bus has acknowledged (`flush()` was True), or the end.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any, overload

from stagecast import RedisStreamPublisher
from tests.sse.programs import Program, running
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
PACE = 0.004
"""Seconds between two pieces."""
SECONDS = 40.0
"""Within which the process must have begun, or ended."""


def piece_of(number: int) -> str:
    """What is written, the same in each process: Chinese and an emoji, whose lengths differ in every encoding."""
    return f"{number}字😀 "


class Journal(Sequence[str]):
    """The pieces that a running program has handed over to its publisher."""

    def __init__(self, program: Program) -> None:
        self.acknowledged = 0
        """How many of them the bus had acknowledged."""
        self.outcome: dict[str, Any] | None = None
        self._program = program
        self._pieces: list[str] = []
        self._read = 0

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self._up_to_date()[index]

    def __len__(self) -> int:
        return len(self._up_to_date())

    def _up_to_date(self) -> list[str]:
        lines = self._program.lines
        while self._read < len(lines):
            line = lines[self._read]
            self._read += 1
            if not line.startswith('{"'):
                continue  # of the log
            entry = json.loads(line)
            if "piece" in entry:
                self._pieces.append(entry["piece"])
            self.acknowledged = entry.get("acknowledged", self.acknowledged)
            self.outcome = entry if "done" in entry else self.outcome
        return self._pieces


class Writer:
    """The process, as a test sees it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.journal = Journal(program)

    @property
    def text(self) -> str:
        """All that was handed over."""
        return "".join(self.journal)

    async def begun(self) -> None:
        """Wait until the bus has acknowledged something."""
        await eventually(lambda: len(self.journal) and self.journal.acknowledged, SECONDS)

    async def finish(self) -> None:
        """Let it end with `done`; fails unless the bus has acknowledged that, and all before it."""
        await self._end(signal.SIGTERM, done=True)

    async def leave(self) -> None:
        """Let it end without `done`."""
        await self._end(signal.SIGUSR1, done=False)

    async def _end(self, number: signal.Signals, *, done: bool) -> None:
        self.program.process.send_signal(number)
        await eventually(lambda: self.program.process.poll() is not None, SECONDS)
        assert self.program.exit_code(5) == 0, self.program.output
        assert len(self.journal)
        assert self.journal.outcome == {"done": done, "flushed": True, "closed": True}, self.program.output

    def freeze(self) -> None:
        """Stop it for a while (SIGSTOP)."""
        self.program.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        self.program.process.send_signal(signal.SIGCONT)

    async def die(self) -> None:
        """Kill it (SIGKILL), and wait until all that it has said is known."""
        self.program.process.kill()
        assert self.program.exit_code(10) == -signal.SIGKILL


@contextmanager
def writing(url: str, project: str, **environment: str) -> Iterator[Writer]:
    """A writer of the stage `rewrite` on the bus at `url`."""
    given = {"STAGECAST_BUS": url, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **environment}
    with running([sys.executable, "-m", "tests.faults.writer", project], given) as program:
        yield Writer(program)


def main(project: str) -> None:
    is_over, leaves = Event(), Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    signal.signal(signal.SIGUSR1, lambda *_: leaves.set())

    def note(**entry: object) -> None:
        sys.stdout.write(json.dumps(entry) + "\n")  # at once, for the log goes to the same pipe

    with RedisStreamPublisher(project, "rewrite", timeout=20) as publisher:
        assert publisher.publish_stage_update("processing")
        number = 0
        while not (is_over.is_set() or leaves.is_set()):
            assert publisher.publish_token(piece_of(number))
            note(piece=piece_of(number))
            number += 1
            if number % 50 == 1 and publisher.flush(0.05):
                note(acknowledged=number)
            time.sleep(PACE)
        done = not leaves.is_set() and publisher.publish_done()
        flushed = publisher.flush()
        note(done=done, flushed=flushed, closed=publisher.close())


if __name__ == "__main__":
    assert os.environ["STAGECAST_BUS"]
    main(sys.argv[1])
