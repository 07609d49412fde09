"""Child processes of the demo: started, waited for, and ended by their ids. Knows no Celery, Redis or model."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from stagecast.domain.errors import StagecastError

LOG_LINES = 12
_POLL = 0.05


class DemoFailed(StagecastError):
    """A part of the demo could not be started, or has ended by itself; the message holds the end of its log."""


class Child:
    """A process in a session of its own, so that Ctrl-C reaches the demo alone, which then ends it in order."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environ: Mapping[str, str] | None = None,
        ends: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 5.0),),
    ) -> None:
        self.name, self.log = name, log
        self._ends = ends
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environ or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raise DemoFailed where the process has ended."""
        if (code := self._process.poll()) is not None:
            raise DemoFailed(f"{self.name} has ended with code {code}; the end of its log:\n{self._tail()}")

    def wait_for(self, ready: Callable[[], bool], timeout: float) -> None:
        """Return when `ready`; raise DemoFailed where the process ends before, or `timeout` seconds don't suffice."""
        deadline = time.monotonic() + timeout
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise DemoFailed(f"{self.name} is not ready after {timeout:.0f} s; its log:\n{self._tail()}")
            time.sleep(_POLL)

    def end(self) -> None:
        """End the process: each signal with its patience in seconds, then a kill of all that it has started."""
        for number, patience in self._ends:
            if self._process.poll() is not None:
                break
            self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its session is its own, so are all in it
        self._process.wait()

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (empty)"


def answers(host: str, port: int) -> bool:
    """Whether somebody listens."""
    with suppress(OSError), socket.create_connection((host, port), timeout=1.0):
        return True
    return False


def usable_port(host: str, port: int) -> int:
    """`port`, or a free one for 0. Raises DemoFailed where it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OverflowError as error:
            raise DemoFailed(f"{port} is no port: choose one up to 65535") from error
        except OSError as error:
            raise DemoFailed(
                f"port {port} of {host} cannot be used: {error.strerror}. Choose another one: "
                "`make demo PORT=8001` or `stagecast demo --port 8001`"
            ) from error
        found: int = probe.getsockname()[1]
        return found
