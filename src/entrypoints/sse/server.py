"""Serving the SSE application with uvicorn: streams end at once when the server is told to exit. No monkey-patching."""

import ipaddress
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

GRACEFUL_SECONDS = 3
"""That a shutdown waits for clients which take nothing; all others are gone at once."""


class Server(uvicorn.Server):
    """uvicorn's server, which drains the application's streams before it waits for its connections."""

    def __init__(self, app: Starlette, host: str, port: int, *, started: Callable[[str], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                lifespan="on",
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=GRACEFUL_SECONDS,
            )
        )
        self._app, self._started_at = app, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say where."""
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        self._started_at(f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Send the viewers away, then shut down. Also where no signal, but `should_exit`, ended the server."""
        self._app.state.edge.drain()
        await super().shutdown(sockets)


def is_loopback(host: str) -> bool:
    """Whether a server on `host` can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None) if host else []
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(one[4][0]).is_loopback for one in found)
