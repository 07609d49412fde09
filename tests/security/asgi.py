"""One request to an application in this process, with any bytes where a server would let them through."""

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from attrs import frozen
from starlette.types import ASGIApp

SECONDS = 15.0
RawHeaders = Sequence[tuple[bytes, bytes]]


@frozen
class Exchange:
    """What an application has answered, up to its first bytes of body."""

    status: int
    headers: dict[str, str]
    body: bytes


async def get(app: ASGIApp, path: str, headers: RawHeaders = (), query: bytes = b"") -> Exchange:
    """A GET for a raw path; the scope is as uvicorn makes it. The client goes with the first byte of the body."""
    sent: list[Any] = []
    enough = asyncio.Event()

    async def receive() -> Any:
        await enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if message.get("body") or not message.get("more_body", True):
            enough.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode("ascii"),
        "query_string": query,
        "root_path": "",
        "headers": [(b"host", b"localhost"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    async with asyncio.timeout(SECONDS):
        await app(scope, receive, send)
    start = sent[0]
    found = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
    return Exchange(start["status"], found, b"".join(one.get("body", b"") for one in sent[1:]))
