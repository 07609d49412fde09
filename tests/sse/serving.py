"""Real uvicorn servers for tests, each in a thread with an event loop of its own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from tests.waiting import wait_until


class Served:
    """A server that listens on a free port of 127.0.0.1."""

    def __init__(self, app: ASGIApp, **options: Any) -> None:
        self.app = app
        self.server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none", **options)
        )
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="uvicorn")

    @property
    def port(self) -> int:
        port: int = self.server.servers[0].sockets[0].getsockname()[1]
        return port

    def start(self) -> None:
        self._thread.start()
        wait_until(lambda: self.server.started or not self._thread.is_alive())
        assert self.server.started

    def stop(self) -> None:
        """Shut down as at the end of a test: streams that a failed test left open are cancelled."""
        self.server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self.server.serve())


@contextmanager
def served(app: ASGIApp, **options: Any) -> Iterator[Served]:
    """A running server for `app`."""
    server = Served(app, **{"timeout_graceful_shutdown": 1, **options})
    server.start()
    try:
        yield server
    finally:
        server.stop()


def viewers_of(server: Served, project: str) -> set[object]:
    """The viewers of a project in the server's hub."""
    hub = next(iter(server.app.state.edge._hubs.values()))  # type: ignore[attr-defined]
    channel = hub.channels.get(project)
    return set(channel.viewers) if channel else set()
