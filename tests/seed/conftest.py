"""Fixtures: an emptied Redis that is configured as the bus, and what the examples print."""

import pytest

from tests.seed import examples
from tests.servers import RedisServer


@pytest.fixture
def configured(any_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """A real, emptied server, named by the seed's variable."""
    monkeypatch.delenv("STAGECAST_BUS", raising=False)
    monkeypatch.setenv("REDIS_URL", any_redis.url)
    return any_redis


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the examples print, line by line."""
    lines: list[str] = []
    monkeypatch.setattr(examples, "print", lines.append, raising=False)
    return lines
