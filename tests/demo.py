"""Running the demo for tests: its page in this process, or the real command in processes of its own."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from attrs import frozen

from stagecast.domain.bus import MessageBus
from stagecast.entrypoints import wiring
from stagecast.entrypoints.demo import in_memory
from stagecast.entrypoints.demo.config import Setting
from stagecast.entrypoints.demo.writer import LocalWriter
from stagecast.entrypoints.sse.server import Server
from tests.waiting import wait_until

TEXT = (
    "The keeper had not seen a ship for nine days 🌊. 第十天清晨，海面上漂来一只纸船👩‍🚀，船头写着她的名字。 "
    "She lit the lamp, and the boat answered with a spark ✨. 夜里下起了雪，灯塔像一支蜡烛🕯️。 "
    "In the morning nobody could say who had sent it \U0001f9d1\U0001f3fd‍\U0001f680, or why."
)
"""Chinese, emoji of several code points, and characters beyond the basic plane."""

START_SECONDS = 40.0
END_SECONDS = 15.0


@frozen
class Demo:
    """A running demo."""

    url: str
    bus: str | MessageBus
    """Where an independent subscriber finds what was published."""


@contextmanager
def demo_in_memory(*, pace: float = 0.0, picture_pause: float = 0.0) -> Iterator[Demo]:
    """The demo's page, its pipeline and its bus in this process."""
    bus = wiring.open_bus("memory://")
    setting = Setting(text=TEXT, transport="memory, one process", writer=LocalWriter(pace))
    urls: list[str] = []
    server = Server(in_memory.create_app(bus, setting, picture_pause), "127.0.0.1", 0, started=urls.append)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield Demo(wait_until(lambda: urls, START_SECONDS)[0], bus)
    finally:
        server.should_exit = True
        thread.join(END_SECONDS)
        assert not thread.is_alive()


class DemoProcess:
    """`stagecast demo` as a user runs it. What it says is in `output`."""

    def __init__(self, *arguments: str, environ: Mapping[str, str]) -> None:
        self.output = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stagecast.entrypoints.cli", "demo", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(environ),
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.output += line

    def url(self) -> str:
        """The page's URL, once the demo has said it; fails with the output where the demo ends before."""

        def said() -> Any:
            assert self.process.poll() is None or "The demo is on" in self.output, self.output
            return re.search(r"The demo is on (\S+)", self.output)

        return str(wait_until(said, START_SECONDS).group(1))

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code after a signal (which nobody gets where it has ended already)."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(END_SECONDS)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._reader.join(END_SECONDS)


def descendants(process: int) -> dict[int, str]:
    """The command lines of a process's children, their children and so on, by process id."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found: dict[int, str] = {}
    waiting = [process]
    while waiting:
        children = [child for child, parent in parents.items() if parent == waiting[0]]
        waiting = [*waiting[1:], *children]
        for child in children:
            with suppress(OSError):
                found[child] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
    return found


def is_running(process: int) -> bool:
    """Whether the process is there and has not ended (as a zombie has)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def demo_process(*arguments: str, environ: Mapping[str, str]) -> Iterator[DemoProcess]:
    """The command, ended at the end of the block."""
    demo = DemoProcess(*arguments, environ=environ)
    try:
        yield demo
    finally:
        demo.end()
