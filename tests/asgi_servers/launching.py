"""ASGI servers as processes of their own: how each is started, when it listens, and how it is ended."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from tests.servers import free_port
from tests.sse.programs import BIN, CONFIGURATION
from tests.waiting import wait_until

START_SECONDS = 30.0
APP = "stagecast.entrypoints.sse:app"
APPS = {"hypercorn": "stagecast.entrypoints.sse.asgi:create_app()"}
"""Hypercorn looks a name up in the module's own dictionary, where `app` is not before somebody asks for it."""


def _program(name: str, *arguments: str) -> list[str]:
    return [str(BIN / name), *arguments]


COMMANDS: dict[str, Callable[[str, int], list[str]]] = {
    "uvicorn": lambda app, port: _program("uvicorn", app, "--port", str(port)),
    "daphne": lambda app, port: _program("daphne", "-b", "127.0.0.1", "-p", str(port), app),
    "hypercorn": lambda app, port: _program("hypercorn", "-w", "0", "-b", f"127.0.0.1:{port}", app),
    "granian": lambda app, port: _program("granian", "--interface", "asgi", "--port", str(port), app),
    "gunicorn": lambda app, port: _program(
        "gunicorn", "-k", "uvicorn_worker.UvicornWorker", "-b", f"127.0.0.1:{port}", app
    ),
}
"""The command of each server, as docs/asgi-servers.md names it."""


QUIET = {"PYTHONUNBUFFERED": "1", "GUNICORN_CMD_ARGS": "--no-control-socket"}
"""Output as it comes, and nothing left in the home folder."""


class Launched:
    """A server program and the processes it starts; what they say is collected."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def send(self, signal_: signal.Signals) -> None:
        """Send a signal: SIGINT to all processes, as a terminal does, others to the first one alone."""
        if signal_ == signal.SIGINT:
            os.killpg(self.process.pid, signal_)
        else:
            self.process.send_signal(signal_)

    def exit_code(self, seconds: float) -> int:
        """Its exit code; fails where it, or a process of it, does not end in time."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)  # its processes hold the other end of the pipe
        assert not self._reader.is_alive(), "a worker is left"
        return code

    def kill(self) -> None:
        """End the program with all its processes; a session of its own holds nobody else."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def listens(self) -> bool:
        assert self.process.poll() is None, self.output
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)


@contextmanager
def launched(
    command: Sequence[str], port: int, environment: Mapping[str, str] | None = None, cwd: str | None = None
) -> Iterator[Launched]:
    """The program that `command` starts, once it listens on `port`; killed at the end if it still runs."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(CONFIGURATION)}
    process = subprocess.Popen(
        list(command),
        env={**inherited, **QUIET, **(environment or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    server = Launched(process, port)
    try:
        wait_until(server.listens, START_SECONDS)
        yield server
    finally:
        server.kill()


@contextmanager
def server_of(
    name: str, bus: str, *options: str, app: str | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Launched]:
    """The server `name`, with the application on `bus` or with another `app`."""
    port = free_port()
    command = [*COMMANDS[name](app or APPS.get(name, APP), port), *options]
    with launched(command, port, {"STAGECAST_BUS": bus, **(environment or {})}) as server:
        yield server
