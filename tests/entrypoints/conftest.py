"""Fixtures for tests of the synchronous facade: a bus to name by its URL, and ids that nobody else uses."""

from uuid import uuid4

import pytest


@pytest.fixture(params=["memory", "redis"])
def bus_url(request: pytest.FixtureRequest) -> str:
    """The URL of the in-memory bus and of a real server in turn."""
    if request.param == "memory":
        return "memory://"
    url: str = request.getfixturevalue("any_redis").url
    return url


@pytest.fixture
def project() -> str:
    """A project that no other test publishes to."""
    return uuid4().hex
