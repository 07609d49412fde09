"""The proxy does to connections what its faults are named after."""

import socket
from collections.abc import Iterator

import pytest

from tests.faults.proxy import Proxy
from tests.servers import RedisServer
from tests.waiting import wait_until


@pytest.fixture
def proxy(any_redis: RedisServer) -> Iterator[Proxy]:
    with Proxy(any_redis.port) as made:
        yield made


def connected(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def asked(client: socket.socket, timeout: float = 5.0) -> bytes:
    """What comes within `timeout` seconds after a PING; b"" at the end of the connection."""
    client.sendall(b"PING\r\n")
    return heard(client, timeout)


def heard(client: socket.socket, timeout: float = 5.0) -> bytes:
    client.settimeout(timeout)
    return client.recv(100)


def test_it_forwards_and_counts(proxy: Proxy) -> None:
    """Data passes in both directions, and late where that is asked for; connections and bytes are counted."""
    with connected(proxy) as client:
        assert asked(client) == b"+PONG\r\n"
        assert (proxy.connections, proxy.open, proxy.silenced) == (1, 1, 0)
        wait_until(lambda: (proxy.bytes_up, proxy.bytes_down) == (6, 7))
        for direction in ("delay_up", "delay_down"):
            setattr(proxy, direction, 0.5)
            with pytest.raises(TimeoutError):
                asked(client, 0.1)
            assert heard(client) == b"+PONG\r\n"
            setattr(proxy, direction, 0.0)
    wait_until(lambda: proxy.open == 0)


def test_it_cuts(proxy: Proxy) -> None:
    """A cut is seen by the client as a reset or an end, as asked for; the next connection is served."""
    with connected(proxy) as client:
        assert asked(client) == b"+PONG\r\n"
        assert proxy.cut(reset=True) == 1
        with pytest.raises(ConnectionResetError):
            heard(client)
    wait_until(lambda: proxy.open == 0)
    with connected(proxy) as client:
        assert asked(client) == b"+PONG\r\n"
        assert proxy.cut(reset=False) == 1
        assert heard(client) == b""
    with connected(proxy) as client:
        assert asked(client) == b"+PONG\r\n"


def test_a_black_hole_holds_and_gives_back(proxy: Proxy) -> None:
    """What a black hole holds goes on its way when it heals; who connected to it never gets an answer."""
    with connected(proxy) as client:
        assert asked(client) == b"+PONG\r\n"
        proxy.black_hole()
        with pytest.raises(TimeoutError):
            asked(client, 0.1)
        with connected(proxy) as other:
            with pytest.raises(TimeoutError):
                asked(other, 0.1)
            proxy.heal()
            assert heard(client) == b"+PONG\r\n"
            with pytest.raises(TimeoutError):
                asked(other, 0.1)
        assert proxy.silenced == 1
        with connected(proxy) as another:
            assert asked(another) == b"+PONG\r\n"


def test_half_open_connections_stay_so(proxy: Proxy, any_redis: RedisServer) -> None:
    """The server loses the connection and the client is never told, not even by the healing; then others are served."""
    with any_redis.client() as direct, connected(proxy) as client:
        assert asked(client) == b"+PONG\r\n"
        clients = len(direct.client_list())
        proxy.half_open()
        wait_until(lambda: len(direct.client_list()) == clients - 1)
        with pytest.raises(TimeoutError):
            asked(client, 0.1)
        proxy.heal()
        with pytest.raises(TimeoutError):
            asked(client, 0.1)
        with connected(proxy) as another:
            assert asked(another) == b"+PONG\r\n"


def test_a_server_that_is_gone_ends_the_connection() -> None:
    """Who connects while nobody listens behind the proxy is let go, not kept."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with Proxy(unused.getsockname()[1]) as proxy, connected(proxy) as client:
            assert heard(client) == b""
