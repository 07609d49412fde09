"""Server programs in processes of their own, started and ended by process id."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import wait_until

BIN = Path(sys.executable).parent
SERVE = [str(BIN / "stagecast"), "serve", "--port", "0"]
UVICORN = [str(BIN / "uvicorn"), "stagecast.entrypoints.sse:app", "--port", "0"]
CONFIGURATION = ("STAGECAST_", "REDIS_", "CELERY_", "DJANGO_")
"""What the names of variables that configure stagecast begin with."""

_RUNNING = re.compile(r"running on http://127\.0\.0\.1:(\d+)")


class Program:
    """A running program; what it says is collected."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def output(self) -> str:
        return "".join(self.lines)

    @property
    def port(self) -> int:
        """Where it listens, once it says so."""
        found = wait_until(lambda: _RUNNING.search(self.output) or self.process.poll() is not None, 20)
        assert isinstance(found, re.Match), self.output
        return int(found[1])

    def exit_code(self, seconds: float) -> int:
        """Its exit code; fails where it does not end in time."""
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[Program]:
    """The program, without what configures stagecast but `environment`; killed at the end if it still runs."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(CONFIGURATION)}
    process = subprocess.Popen(
        list(command),
        env={**inherited, "PYTHONUNBUFFERED": "1", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    program = Program(process)
    try:
        yield program
    finally:
        process.kill()
        process.wait()
        program._reader.join(5)
        assert process.stdout is not None
        process.stdout.close()
