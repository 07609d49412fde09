"""Serving the SSE application with uvicorn: streams end at once when the server is told to exit. No monkey-patching."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import Literal

import uvicorn
from starlette.applications import Starlette

GRACEFUL_SECONDS = 3
"""That a shutdown waits for clients which take nothing; all others are gone at once."""


class Server(uvicorn.Server):
    """uvicorn's server, which drains the application's streams before it waits for its connections."""

    def __init__(
        self,
        app: Starlette,
        host: str,
        port: int,
        *,
        started: Callable[[str], None],
        forwarded_allow_ips: str | None = None,
    ) -> None:
        """`forwarded_allow_ips`, None for what FORWARDED_ALLOW_IPS has: the proxies whose X-Forwarded-For counts."""
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=_protocol(app),
                lifespan="on",
                ws="none",
                access_log=False,  # it has the queries; and a line for each request is for a proxy's log
                server_header=False,
                forwarded_allow_ips=forwarded_allow_ips,
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


def _protocol(app: Starlette) -> "type[asyncio.Protocol] | Literal['h11']":
    """With bounds for how requests arrive, where uvicorn's faster parser is installed."""
    try:
        from . import arrival
    except ModuleNotFoundError as error:
        if error.name != "httptools":
            raise
        return "h11"
    edge = app.state.edge
    return arrival.protocol(arrival.Bounds(edge.settings, edge.refusals))


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
