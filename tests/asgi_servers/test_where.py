"""What each server says about where a connection came in: the rule "loopback only, without a policy" rests on it."""

import ipaddress

import httpx
import pytest

from stagecast.entrypoints.sse.locality import is_public
from tests.asgi_servers.launching import COMMANDS, server_of
from tests.servers import RedisServer

WHERE = "tests.asgi_servers.apps:where"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_address_of_the_connection_is_told(name: str, redis: RedisServer) -> None:
    """Each server gives an address that can be judged, so that another than loopback would be refused."""
    with server_of(name, redis.url, app=WHERE) as server:
        told = httpx.get(f"http://127.0.0.1:{server.port}/").json()["server"]
    host, port = told
    assert ipaddress.ip_address(host).is_loopback
    assert int(port) == server.port
    assert not is_public({"server": (host, port)})
    assert is_public({"server": ("192.0.2.1", port)})
