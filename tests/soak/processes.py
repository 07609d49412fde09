"""The soak's processes, each started, watched and ended by its id: servers, publishers, a Celery worker."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from tests.servers import free_port
from tests.sse.programs import CONFIGURATION, SERVE, Program, running
from tests.waiting import wait_until

from .journal import Handed, read

ROOT = Path(__file__).parents[2]
SECONDS = 30.0
"""The deadline of a process's start and of its end; the machine may be busy."""


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, with `settings` instead of what configures stagecast here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(CONFIGURATION)}
    return {**kept, "PYTHONUNBUFFERED": "1", **settings}


class Server:
    """`stagecast serve`, always on the same port."""

    def __init__(self, settings: Mapping[str, str], log: Path) -> None:
        self.port = free_port()
        self._settings, self._log = settings, log
        self._program: Program | None = None
        self._stack = ExitStack()

    @property
    def pid(self) -> int:
        assert self._program is not None
        return self._program.process.pid

    def start(self) -> None:
        self._program = self._stack.enter_context(running([*SERVE[:-1], str(self.port)], self._settings))
        assert self._program.port == self.port

    def stop(self, number: int) -> int:
        """End the process by a signal; its exit code."""
        assert self._program is not None
        self._program.process.send_signal(number)
        code = self._program.exit_code(SECONDS)
        self.close()
        return code

    def close(self) -> None:
        """Leave nothing behind; what the process said is kept."""
        if self._program is not None:
            self._stack.close()
            with self._log.open("a", encoding="utf-8") as log:
                log.write(self._program.output)
            self._program = None


class Publisher:
    """A child that publishes what it is told to (`tests.soak.publisher`)."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, str], seed: int) -> None:
        self.name = name
        self.busy = 0
        """How many projects it publishes now."""
        self._folder = folder
        self._log = folder / f"{name}.log"
        self._lives = 0
        self._settings, self._seed = settings, seed
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._awaited: defaultdict[tuple[str, str], asyncio.Future[dict[str, Any]]]
        self._awaited = defaultdict(lambda: asyncio.get_running_loop().create_future())

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def _journal(self) -> Path:
        """Of its present life."""
        return self._folder / f"{self.name}-{self._lives}.journal"

    async def start(self) -> None:
        self._lives += 1
        command = [sys.executable, "-m", "tests.soak.publisher", str(self._journal), str(self._seed)]
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, cwd=ROOT, env=environment(self._settings), stdin=PIPE, stdout=PIPE, stderr=log
            )
        self._reader = asyncio.create_task(self._read(self._process))

    async def ask(self, do: str, about: str, **fields: Any) -> dict[str, Any]:
        """Send a command and wait for its news; {} where the process is gone."""
        answers = {"run": "over", "disown": "disowned", "fail": "failed", "count": "threads"}
        assert self._process is not None
        assert self._process.stdin is not None
        line = json.dumps({"do": do, ("project" if do == "fail" else "episode"): about, **fields})
        future = self._awaited[answers[do], about]
        if self._process.returncode is not None or self._reader is None or self._reader.done():
            del self._awaited[answers[do], about]
            return {}
        with suppress(OSError):  # the end is told by the reader
            self._process.stdin.write(line.encode() + b"\n")
            await self._process.stdin.drain()
        return await future

    def in_hand(self) -> dict[str, Handed]:
        """The texts that are begun and not over, by its journal."""
        with self._journal.open(encoding="utf-8") as lines:
            return {key: one for key, one in read(lines).items() if one.over is None}

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """SIGKILL; on return it is gone and who waited for news knows."""
        assert self._process is not None
        self._process.kill()
        await self.gone()

    async def kill_if_running(self) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.kill()

    async def finish(self) -> int:
        """Let it end by itself; its exit code."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        return await self.gone()

    async def gone(self) -> int:
        assert self._process is not None
        assert self._reader is not None
        async with asyncio.timeout(SECONDS):
            code = await self._process.wait()
            await self._reader
        return code

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            news = json.loads(line)
            kind = next(iter(news))
            self._tell(kind, "all" if kind == "threads" else news[kind], news)
        for (kind, about), future in list(self._awaited.items()):
            del self._awaited[kind, about]
            if not future.done():
                future.set_result({})

    def _tell(self, kind: str, about: str, news: dict[str, Any]) -> None:
        future = self._awaited.pop((kind, about), None)
        if future is not None and not future.done():
            future.set_result(news)


class Worker:
    """A Celery worker with two processes (`tests.soak.tasks`); its broker is a Redis that nobody breaks."""

    def __init__(self, folder: Path, broker: str, settings: Mapping[str, str]) -> None:
        self._log = folder / "worker.log"
        self._settings = environment({**settings, "SOAK_BROKER": broker})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def children(self) -> list[int]:
        """The processes that execute tasks."""
        found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        return [int(pid) for pid in found.split()]

    def start(self) -> None:
        command = [sys.executable, "-m", "celery", "-A", "tests.soak.tasks", "worker", "--concurrency", "2"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self._settings, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(lambda: b" ready." in self._log.read_bytes() or self._process.poll() is not None, SECONDS)  # type: ignore[union-attr]
        assert self._process.poll() is None, self._log.read_text(errors="replace")

    def stop(self) -> int:
        """A warm shutdown; its exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._process = None
        return code
