"""`stagecast demo`: all in this process on the in-memory bus, or, with --redis, in real processes of their own."""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from stagecast.domain.errors import NotConfigured

from . import config, parts
from .parts import HOST
from .pipeline import PROJECT
from .processes import DemoFailed, usable_port

_POLL = 0.2


def main(options: argparse.Namespace) -> int:
    """Run the demo until Ctrl-C or SIGTERM. `options`: port, input, redis, llm."""
    if options.input is not None:
        os.environ[config.INPUT_VARIABLE] = str(options.input.absolute())
    with _interruptible(), ExitStack() as stack:
        try:
            _run(options, stack)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("stagecast"):
                raise
            raise NotConfigured(f"the demo needs the package {error.name}: pip install 'stagecast[all]'") from error
        except DemoFailed as error:
            print(f"stagecast: error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            _say("ending ...")
    return 0


def _run(options: argparse.Namespace, stack: ExitStack) -> None:
    config.story()
    config.pace()
    port = usable_port(HOST, options.port)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stagecast-demo-")))
    if options.llm:
        _say("starting the language model ...")
        os.environ.update(stack.enter_context(parts.model(folder)))
    if options.redis:
        _run_processes(folder, port, stack)
    else:
        _run_in_memory(port)


def _run_in_memory(port: int) -> None:
    from stagecast.entrypoints import wiring
    from stagecast.entrypoints.sse.server import Server

    from .in_memory import create_app

    setting = config.setting("memory, one process")
    app = create_app(wiring.open_bus("memory://"), setting, config.picture_pause())
    Server(app, HOST, port, started=lambda url: _say_where(url, setting)).run()


def _run_processes(folder: Path, port: int, stack: ExitStack) -> None:
    setting = config.setting("Redis and a Celery worker")
    url, found = stack.enter_context(parts.redis(folder))
    environ = {"STAGECAST_BUS": url}
    _say("starting a Celery worker and a web server ...")
    worker = stack.enter_context(parts.worker(folder, environ))
    web = stack.enter_context(parts.web(folder, environ, port))
    _say(f"Redis          {parts.shown(url)} ({found})")
    _say(f"Celery worker  process {worker.pid}, log {worker.log}")
    _say(f"web server     process {web.pid}, log {web.log}")
    page = f"http://{HOST}:{port}/"
    _say_where(page, setting)
    _say("Try, while a pipeline runs:")
    _say(f'  redis-cli -p {urlsplit(url).port or 6379} psubscribe "ai_story:*"')
    _say(f"  curl -N {page}api/v1/sse/projects/{PROJECT}/stages/rewrite/")
    while True:
        time.sleep(_POLL)
        worker.check()
        web.check()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let the first SIGTERM, like Ctrl-C, be a KeyboardInterrupt; further ones don't disturb the ending."""
    is_ending = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal is_ending
        if not is_ending:
            is_ending = True
            raise KeyboardInterrupt

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _say_where(url: str, setting: config.Setting) -> None:
    _say(f"transport      {setting.transport}")
    _say(f"text           {setting.writer.description}")
    _say(f"The demo is on {url} (Ctrl-C ends it)")


def _say(line: str) -> None:
    print(line, flush=True)
