"""Fixtures: each server once for all tests of a module that leave it running, and a project for each test."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.asgi_servers.launching import COMMANDS, Launched, server_of
from tests.servers import RedisServer


@pytest.fixture(scope="session")
def redis(_any_shared_redis: RedisServer) -> RedisServer:
    """The shared server as it is: nobody empties it under a running program, each test has its own project."""
    return _any_shared_redis


@pytest.fixture(scope="module", params=list(COMMANDS))
def server(request: pytest.FixtureRequest, redis: RedisServer) -> Iterator[Launched]:
    """Each server in turn; it forgets a project as soon as its last viewer leaves."""
    with server_of(request.param, redis.url, environment={"STAGECAST_SSE_LINGER": "0"}) as launched:
        yield launched


@pytest.fixture
def project() -> str:
    """A project that no other test has."""
    return f"p-{uuid4().hex[:12]}"
