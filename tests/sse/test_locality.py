"""Without a policy: what comes from elsewhere though it comes by loopback. Real servers; each refusal has its twin."""

from collections.abc import Iterator

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.access import Access, AccessRequest
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.wiring import CODEC
from tests.sse.browser import request, stage_path
from tests.sse.serving import Served, served

CANCEL = "/api/v1/projects/p/stages/rewrite/cancel"
ROUTES = {stage_path("p"): "GET", "/api/v1/sse/projects/p/": "GET", CANCEL: "POST"}
Headers = dict[str, str]

REFUSED = [
    ({"X-Forwarded-For": "203.0.113.7"}, "proxy"),
    ({"X-Forwarded-For": "127.0.0.1, 203.0.113.7"}, "proxy"),
    ({"X-Forwarded-For": "203.0.113.7, 127.0.0.1"}, "proxy"),
    ({"X-Forwarded-For": "2001:db8::1"}, "proxy"),
    ({"X-Forwarded-For": "unknown"}, "proxy"),
    ({"X-Forwarded-For": ""}, "proxy"),
    ({"X-Real-IP": "203.0.113.7"}, "proxy"),
    ({"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "203.0.113.7"}, "proxy"),
    ({"Forwarded": "for=203.0.113.7"}, "proxy"),
    ({"Host": "evil.example"}, "host"),
    ({"Host": "evil.example:8000"}, "host"),
    ({"Host": "localhost.evil.example"}, "host"),
    ({"Host": "127.0.0.1.evil.example"}, "host"),
    ({"Host": "evil.example", "Origin": "http://evil.example"}, "host"),
    ({"Host": "localhost", "host": "evil.example"}, "host"),
    ({"Host": "localhost@evil.example"}, "host"),
    ({"Host": "0.0.0.0:8000"}, "host"),
    ({"Host": "203.0.113.7"}, "host"),
    ({"Host": "[2001:db8::1]:8000"}, "host"),
    ({"Host": "evillocalhost"}, "host"),
    ({"Host": ""}, "host"),
]
SERVED: list[Headers] = [
    {},
    {"Host": "localhost:8000"},
    {"Host": "LOCALHOST."},
    {"Host": "app.localhost:8000"},
    {"Host": "127.0.0.1:8000"},
    {"Host": "127.9.9.9"},
    {"Host": "[::1]:8000"},
    {"Host": "[::1]"},
    {"Host": "my-machine.lan:8000"},
    {"X-Forwarded-For": "127.0.0.1"},
    {"X-Forwarded-For": "::1, 127.0.0.1:5173", "X-Real-IP": "::ffff:127.0.0.1"},
]


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(create_app(MemoryBus(CODEC), settings=EdgeSettings(hosts={"My-Machine.lan"}))) as running:
        yield running


async def statuses(server: Served, headers: Headers) -> list[int]:
    """The answers of all routes; each that is no stream is a problem."""
    found = []
    for path, method in ROUTES.items():
        async with request(server.port, path, headers, method=method) as response:
            found.append(response.status)
            if response.status >= 400:
                assert response.headers["content-type"] == "application/problem+json"
                assert "without an access policy" in (await response.body())["detail"]
    return found


@pytest.mark.parametrize(("headers", "reason"), REFUSED, ids=str)
async def test_what_may_come_from_elsewhere_is_refused(server: Served, headers: Headers, reason: str) -> None:
    """403 on every route, cancelling too: what a proxy hands on for others, and a page whose name was rebound to us."""
    counts = server.app.state.edge.refusals.counts  # type: ignore[attr-defined]
    before = counts[403, reason]
    assert await statuses(server, headers) == [403, 403, 403]
    assert counts[403, reason] == before + 3


@pytest.mark.parametrize("headers", SERVED, ids=str)
async def test_what_comes_from_here_is_served(server: Served, headers: Headers) -> None:
    """By each name of this machine, and through a proxy that was asked by this machine."""
    assert await statuses(server, headers) == [200, 200, 200]


class Everybody:
    """A policy that grants everything."""

    async def authorize(self, request: AccessRequest) -> Access:
        return Access(principal="")


@pytest.mark.parametrize("protected", [True, False], ids=["policy", "allow_public"])
async def test_it_is_not_asked_where_that_does_not_matter(protected: bool) -> None:
    """With a policy, whose credentials no rebound page has, and where everybody may see everything."""
    policy = Everybody() if protected else None
    path = stage_path("p") + ("stream/" if protected else "")
    with served(create_app(MemoryBus(CODEC), policy, allow_public=not protected)) as server:
        for headers, _ in REFUSED:
            async with request(server.port, path, headers) as response:
                assert response.status == 200
