"""Without an access policy nobody but this machine is served, whatever server runs the application."""

from typing import Any

import pytest
from starlette.types import Message

from stagecast.adapters.jwt import JwtAccessPolicy
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.entrypoints.sse import create_app
from stagecast.entrypoints.wiring import CODEC

SECRET = "a secret that is long enough for HS256"
ROUTES = ["/api/v1/sse/projects/123/", "/api/v1/sse/projects/123/stages/rewrite/"]


async def status(app: Any, path: str, server: tuple[str, int | None] | None) -> int:
    """The status of HEAD `path` on a connection that came in at `server`."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "HEAD",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [],
        "client": ("192.0.2.7", 40000),
        "server": server,
    }
    await app(scope, receive, send)
    return int(sent[0]["status"])


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus(CODEC, BusLimits())


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("host", ["192.0.2.1", "10.0.0.5", "2001:db8::1", "::ffff:192.0.2.1", "0.0.0.0"])
async def test_another_address_than_loopback_is_refused(bus: MemoryBus, path: str, host: str) -> None:
    """A connection from outside gets 403, also under a server that was told to listen to everybody."""
    assert await status(create_app(bus), path, (host, 8000)) == 403


@pytest.mark.parametrize(
    "server", [("127.0.0.1", 8000), ("::1", 8000), ("::ffff:127.0.0.1", 8000), ("/run/s", None), None]
)
async def test_this_machine_is_served(bus: MemoryBus, server: tuple[str, int | None] | None) -> None:
    """Loopback, a socket in the file system, and a server that does not say are served."""
    assert await status(create_app(bus), ROUTES[0], server) == 200


async def test_everybody_is_served_where_that_is_said(bus: MemoryBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """`allow_public` or STAGECAST_ALLOW_PUBLIC opens the server; False closes it whatever the environment says."""
    outside = ("192.0.2.1", 8000)
    assert await status(create_app(bus, allow_public=True), ROUTES[0], outside) == 200
    monkeypatch.setenv("STAGECAST_ALLOW_PUBLIC", "1")
    assert await status(create_app(bus), ROUTES[0], outside) == 200
    assert await status(create_app(bus, allow_public=False), ROUTES[0], outside) == 403


async def test_a_policy_decides_for_every_address(bus: MemoryBus) -> None:
    """With a policy the address does not matter: who has no token gets 401."""
    app = create_app(bus, JwtAccessPolicy(SECRET))
    assert await status(app, ROUTES[0] + "stream/", ("192.0.2.1", 8000)) == 401
