"""Programs that a measure starts: pinned to a core, read through /proc, ended by process id."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
"""The cores that the benchmark may use, as it found them."""
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]
"""Servers under test run on one core, everything that loads them (clients, publishers, Redis) on another."""
IS_PINNED = SERVER_CORE != LOAD_CORE
STOP_SECONDS = 5.0

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def pin(process: int, core: int) -> None:
    """Let every thread of `process` (0: this one) run on `core` alone."""
    threads = [0] if process == 0 else [int(one.name) for one in Path(f"/proc/{process}/task").iterdir()]
    for thread in threads:
        os.sched_setaffinity(thread, {core})


def becomes_child(core: int) -> Callable[[], None]:
    """What a child does before it becomes its program: take its core, and die with its parent, however that ends."""

    def prepare() -> None:
        os.sched_setaffinity(0, {core})
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return prepare


class Program:
    """A running program with its children. `with` ends all of them."""

    def __init__(
        self, argv: Sequence[str], core: int, log: Path, env: Mapping[str, str] | None = None, *, talks: bool = False
    ) -> None:
        """Start it; with `talks` its standard input and output are pipes, else what it writes goes to `log`."""
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else output,
                stderr=output,
                env={**os.environ, **(env or {})},
                preexec_fn=becomes_child(core),
            )

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def tree(self) -> list[int]:
        """The program and what it has started."""
        return tree_of(self.pid)

    def cpu(self) -> float:
        """Seconds of processor time that the living threads of the tree have used, user and system."""
        return sum(cpu_of(one) for one in self.tree())

    def memory(self) -> int:
        """Resident bytes of the tree."""
        return sum(memory_of(one) for one in self.tree())

    def stop(self) -> None:
        """End the tree: politely, then by force."""
        members = self.tree()
        if self.is_running:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        for orphan in members[1:]:  # a worker whose master was killed
            _end(orphan)


def _end(process: int) -> None:
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def tree_of(process: int) -> list[int]:
    """`process` and its descendants; nothing of one that has ended."""
    found, waiting = [], [process]
    while waiting:
        one = waiting.pop()
        try:
            threads = list(Path(f"/proc/{one}/task").iterdir())
            children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
        except OSError:
            continue
        found.append(one)
        waiting += children
    return found


def cpu_of(process: int) -> float:
    """Seconds of processor time of the process's living threads, to the nanosecond (schedstat)."""
    total = 0
    for thread in Path(f"/proc/{process}/task").iterdir():
        try:
            total += int((thread / "schedstat").read_text().split()[0])
        except OSError:  # it has just ended
            continue
    return total / 1e9


def memory_of(process: int) -> int:
    """Resident bytes of the process."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def settled_memory(program: Program, seconds: float) -> int:
    """The tree's resident bytes once they change by less than 1 % in half a second; `seconds` at the most."""
    deadline = time.monotonic() + seconds
    before = program.memory()
    while time.monotonic() < deadline:
        time.sleep(min(0.5, seconds))
        now = program.memory()
        if abs(now - before) < before / 100:
            return now
        before = now
    return before


def ports_of(program: Program) -> set[int]:
    """The local ports of the tree's TCP connections."""
    inodes = set()
    for process in program.tree():
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            try:
                target = str(descriptor.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[9] in inodes}
