"""Fixtures: an app on memory that executes eagerly, and real workers of each pool on a real server."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
from attrs import define
from celery import Celery

from stagecast.adapters.codec import JsonCodec
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits, MessageBus
from stagecast.entrypoints.background import background
from stagecast.entrypoints.wiring import open_bus, shared_bus
from tests.celery import app as tests_app
from tests.celery.app import make_app, tasks_of
from tests.servers import RedisServer, available_redis_kinds, start_redis
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 20.0


@pytest.fixture
def project() -> str:
    """A project that no other test publishes to."""
    return uuid4().hex


@define(eq=False)
class Eager:
    """An app that executes its tasks where they are called, and its bus."""

    app: Celery
    bus: MemoryBus
    tasks: Any


@pytest.fixture
def eager() -> Eager:
    """Eager tasks on a memory bus of their own."""
    bus = MemoryBus(JsonCodec())
    app = make_app("memory://", "celery", bus)
    app.conf.task_always_eager = True
    return Eager(app, bus, tasks_of(app))


@define(eq=False)
class Worker:
    """A running `celery worker` with a queue of its own, and an app that sends to it."""

    pool: str
    url: str
    bus: MessageBus
    """The worker's bus as this process sees it, with the worker's lease."""
    process: "subprocess.Popen[bytes]"
    log_file: Path
    app: Celery
    tasks: Any

    @property
    def log(self) -> str:
        """What the worker has logged."""
        return self.log_file.read_text(errors="replace")


@contextmanager
def running_worker(
    url: str,
    pool: str,
    *arguments: str,
    lease: float | None = None,
    module: ModuleType = tests_app,
    queue: str = "",
    **environment: str,
) -> Iterator[Worker]:
    """A worker of the module's `app` that is ready; ended by its process id. Without `queue` it has one of its own."""
    queue = queue or f"queue-{uuid4().hex}"
    with tempfile.TemporaryDirectory(prefix="stagecast-worker-") as folder:
        log_file = Path(folder) / "worker.log"
        command = [sys.executable, "-m", "celery", "-A", module.__name__, "worker", "--pool", pool]
        command += ["--concurrency", "4", "--hostname", f"{uuid4().hex}@here", "--loglevel", "INFO"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat", *arguments]
        if lease is not None:
            environment["STAGECAST_LIMITS_LEASE"] = str(lease)
        given = {"TEST_BROKER": url, "TEST_QUEUE": queue, "STAGECAST_BUS": url, **environment}
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **given}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        app = module.make_app(url, queue, environment.get("STAGECAST_BUS", url))
        bus = shared_bus(url) if lease is None else open_bus(url, BusLimits(lease=lease))
        worker = Worker(pool, url, bus, process, log_file, app, tasks_of(app))
        try:
            wait_until(lambda: " ready." in worker.log or process.poll() is not None, START_SECONDS)
            assert process.poll() is None, worker.log
            yield worker
        finally:
            app.close()
            if lease is not None:
                background().call(bus.aclose(), 5)
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="package")
def broker() -> Iterator[RedisServer]:
    """The server that workers share as broker and bus. Nobody may empty it."""
    with start_redis(available_redis_kinds()[0]) as server:
        yield server


@pytest.fixture(scope="package", params=["prefork", "threads", "solo"])
def worker(request: pytest.FixtureRequest, broker: RedisServer) -> Iterator[Worker]:
    """A worker of each pool in turn."""
    with running_worker(broker.url, request.param) as started:
        yield started


@pytest.fixture(scope="package")
def mortal(broker: RedisServer) -> Iterator[Worker]:
    """A worker whose processes die in these tests; a lease is a second."""
    with running_worker(broker.url, "prefork", lease=1.0) as started:
        yield started
