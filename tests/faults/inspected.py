"""`stagecast serve` that also tells what it holds: `python -m tests.faults.inspected URL`, then GET /census."""

import asyncio
import gc
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stagecast.entrypoints.cli import LOG_FORMAT
from stagecast.entrypoints.sse import Server, create_app


def census(app: Starlette, server: Server) -> dict[str, int]:
    """How many of everything the process holds that viewers could leave behind; memory in bytes."""
    gc.collect()
    hub: Any = app.state.edge.hub()
    local = hub.bus._loops.here()
    feed = local.feed
    resident = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert resident is not None
    return {
        "memory": int(resident[1]) * 1024,
        "files": len(os.listdir("/proc/self/fd")),
        "connections": len(server.server_state.connections),
        "tasks": len(asyncio.all_tasks()),
        "viewers": hub._count,
        "channels": len(hub.channels) + len(hub._closing),
        "principals": len(hub._principals),
        "subscriptions": len(local.subscriptions),
        "feed": sum(map(len, (feed._members, feed._confirmed, feed._epochs, feed.liveness))),
    }


def main(url: str) -> None:
    async def answer(_: Request) -> Response:
        return JSONResponse(census(app, server))

    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    app = create_app(url, routes=[Route("/census", answer)])
    server = Server(app, "127.0.0.1", 0, started=lambda _: None)
    server.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
