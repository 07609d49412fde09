"""Streams for pages of other origins: which of them may read, and that a refusal can be read too."""

from collections.abc import Iterator

import pytest

from stagecast.adapters.jwt import JwtAccessPolicy
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import BusUnavailable, NotConfigured
from stagecast.entrypoints.sse import CorsSettings, EdgeSettings, create_app
from stagecast.entrypoints.wiring import CODEC
from tests.sse.browser import Response, project_path, request, stage_path
from tests.sse.flaky import FlakyBus
from tests.sse.serving import Served, served
from tests.sse.test_cli import stagecast_says
from tests.sse.tokens import SECRET, bearer, token

PAGE, FOREIGN = "http://localhost:5173", "https://evil.example"
EVENT_SOURCE = {"Accept": "text/event-stream", "Origin": PAGE}
ALLOW, CREDENTIALS = "access-control-allow-origin", "access-control-allow-credentials"
ASKING = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization, last-event-id"}


def cors_of(response: Response) -> dict[str, str]:
    """The headers of CORS; the test fails where one is there twice."""
    found = [(name, value) for name, value in response.header_list if name.startswith("access-control-")]
    assert len(dict(found)) == len(found)
    return dict(found)


def vary_of(response: Response) -> set[str]:
    return {name.strip() for name in response.headers.get("vary", "").split(",")}


@pytest.fixture(scope="module")
def exact(shared_bus: MemoryBus) -> Iterator[Served]:
    """A server whose streams one origin's pages may read."""
    with served(create_app(shared_bus, cors=CorsSettings(origins=[PAGE]))) as server:
        yield server


@pytest.fixture(scope="module")
def wildcard(shared_bus: MemoryBus) -> Iterator[Served]:
    with served(create_app(shared_bus, cors=CorsSettings(origins=["*"]))) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(shared_bus: MemoryBus) -> Iterator[Served]:
    """A server with a policy, and cookies of one origin's pages."""
    cors = CorsSettings(origins=[PAGE], credentials=True)
    with served(create_app(shared_bus, JwtAccessPolicy(SECRET), cors=cors)) as server:
        yield server


async def test_a_listed_origin_may_read(exact: Served, project: str) -> None:
    """Its own name is the answer, on both routes, before the first byte of the stream, and no credentials with it."""
    for path in (stage_path(project), project_path(project)):
        async with request(exact.port, path, EVENT_SOURCE) as response:
            assert (response.status, response.headers[ALLOW]) == (200, PAGE)
            assert CREDENTIALS not in response.headers
            assert vary_of(response) == {"Origin"}
            assert (await response.next()).message["type"] == "connected"
        async with request(exact.port, path, EVENT_SOURCE, method="HEAD") as response:
            assert response.headers[ALLOW] == PAGE


@pytest.mark.parametrize(
    "origin", [FOREIGN, "null", "http://localhost", f"{PAGE}0", "https://localhost:5173", "", None]
)
async def test_another_origin_gets_no_header(exact: Served, project: str, origin: str | None) -> None:
    """The browser then keeps the answer from its page; caches are told that it depends on the origin."""
    headers = {"Accept": "text/event-stream"} | ({} if origin is None else {"Origin": origin})
    async with request(exact.port, stage_path(project), headers) as response:
        assert (response.status, cors_of(response), vary_of(response)) == (200, {}, {"Origin"})


async def test_without_settings_there_is_no_cors(edge: Served, project: str) -> None:
    """Nothing is opened by default, and a preflight is a method that is not allowed."""
    async with request(edge.port, stage_path(project), EVENT_SOURCE) as response:
        assert (cors_of(response), "vary" in response.headers) == ({}, False)
    async with request(edge.port, stage_path(project), {"Origin": PAGE, **ASKING}, method="OPTIONS") as response:
        assert (response.status, cors_of(response)) == (405, {})


async def test_every_origin(wildcard: Served, project: str) -> None:
    """`*` never comes with credentials, and does not hold for `null`, which any sandboxed page sends."""
    async with request(wildcard.port, stage_path(project), {**EVENT_SOURCE, "Origin": FOREIGN}) as response:
        assert response.headers[ALLOW] == "*"
        assert CREDENTIALS not in response.headers
    async with request(wildcard.port, stage_path(project), {**EVENT_SOURCE, "Origin": "null"}) as response:
        assert (cors_of(response), vary_of(response)) == ({}, {"Origin"})


@pytest.mark.parametrize("origins", [["null"], ["*", "null"], [PAGE, "null"]])
def test_null_is_allowed_where_it_is_listed(origins: list[str]) -> None:
    """For pages from files; with credentials it is never allowed."""
    assert CorsSettings(origins=origins).allows("null")
    with pytest.raises(NotConfigured, match="exact origins"):
        CorsSettings(origins=origins, credentials=True)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, 204),
        ({"Access-Control-Request-Headers": "Last-Event-ID"}, 204),
        ({"Access-Control-Request-Method": "HEAD"}, 204),
        ({"Access-Control-Request-Method": "POST"}, 400),
        ({"Access-Control-Request-Headers": "authorization,x-own"}, 400),
        ({"Origin": FOREIGN}, 400),
        ({"Origin": "null"}, 400),
    ],
)
async def test_a_preflight_is_answered_without_credentials(
    guarded: Served, project: str, asked: dict[str, str], status: int
) -> None:
    """For a client that uses fetch; the policy, which would answer 401, is not asked."""
    headers = {"Origin": PAGE, **ASKING, **asked}
    async with request(guarded.port, stage_path(project) + "stream/", headers, method="OPTIONS") as response:
        assert response.status == status
        found = cors_of(response)
        assert found.get(ALLOW) == (PAGE if headers["Origin"] == PAGE else None)
        assert found.get(CREDENTIALS) == ("true" if headers["Origin"] == PAGE else None)
        assert found["access-control-allow-methods"] == "GET, HEAD"
        assert {"Authorization", "Last-Event-ID"} <= set(found["access-control-allow-headers"].split(", "))
        assert int(found["access-control-max-age"]) > 0
        assert "Origin" in vary_of(response)


async def test_options_without_a_question_is_refused(exact: Served, project: str) -> None:
    """It is no preflight: 405, which the page may read."""
    async with request(exact.port, stage_path(project), {"Origin": PAGE}, method="OPTIONS") as response:
        assert (response.status, response.headers[ALLOW]) == (405, PAGE)


async def test_refusals_can_be_read(guarded: Served, project: str) -> None:
    """400, 401, 403 and 404 carry the headers; another origin's page sees none of them."""
    mine = bearer(token(projects=[project]))
    for path, credentials, status in (
        (stage_path("a%20b"), mine, 400),
        (stage_path(project) + "stream/", {}, 401),
        (stage_path(project) + "stream/", bearer(token(projects=["other"])), 403),
        (stage_path(project) + "stream/?run=none", mine, 404),
        (stage_path(project), mine, 404),
    ):
        async with request(guarded.port, path, {**EVENT_SOURCE, **credentials}) as response:
            assert (response.status, response.headers[ALLOW], response.headers[CREDENTIALS]) == (status, PAGE, "true")
            assert vary_of(response) == {"Origin"}
            assert "Retry-After" in response.headers["access-control-expose-headers"]
        async with request(guarded.port, path, {**credentials, "Origin": FOREIGN}) as response:
            assert (response.status, cors_of(response)) == (status, {})


async def test_temporary_refusals_can_be_read(project: str) -> None:
    """503 and 429, and the empty streams that tell an EventSource to come back: without the headers it gives up."""
    bus = FlakyBus(MemoryBus(CODEC, BusLimits()))
    settings = EdgeSettings(patience=0.1, connections=1)
    with served(create_app(bus, settings=settings, cors=CorsSettings(origins=[PAGE]))) as server:
        async with request(server.port, stage_path(project), EVENT_SOURCE) as first:
            await first.next()
            await assert_readable(server, stage_path(project), 429)
        bus.fail(BusUnavailable("away"), times=1_000_000)
        await assert_readable(server, stage_path(f"{project}-2"), 503)


async def assert_readable(server: Served, path: str, status: int) -> None:
    for accept, expected in (("text/event-stream", 200), ("*/*", status)):
        async with request(server.port, path, {"Accept": accept, "Origin": PAGE}) as response:
            assert (response.status, response.headers[ALLOW], vary_of(response)) == (expected, PAGE, {"Origin"})
            if expected == 200:
                assert await response.rest() == []
                assert response.stream.retry is not None


async def test_the_environment_configures_cors(
    shared_bus: MemoryBus, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Origins by commas; what the caller gives wins."""
    monkeypatch.setenv("STAGECAST_CORS_ORIGINS", f" https://app.example,{PAGE} ,")
    monkeypatch.setenv("STAGECAST_CORS_CREDENTIALS", "1")
    with served(create_app(shared_bus)) as server:
        async with request(server.port, stage_path(project), EVENT_SOURCE) as response:
            assert (response.headers[ALLOW], response.headers[CREDENTIALS]) == (PAGE, "true")
    with served(create_app(shared_bus, cors=CorsSettings(origins=[FOREIGN]))) as server:
        async with request(server.port, stage_path(project), EVENT_SOURCE) as response:
            assert cors_of(response) == {}


@pytest.mark.parametrize(
    "origin",
    [
        "localhost:5173",
        "https://app.example/",
        "https://app.example/path",
        "https://App.example",
        "https://app.example:443",
        "http://app.example:80",
        "https://*.example",
        "https://user@app.example",
        "https://",
        "https://a.example https://b.example",
        "https://a.example\r\nx: y",
    ],
)
def test_what_no_browser_sends_is_refused(origin: str) -> None:
    """It would never match, and nobody would know why."""
    with pytest.raises(NotConfigured, match="not an origin"):
        CorsSettings(origins=[origin])


@pytest.mark.parametrize(
    "origin", ["http://[::1]:8000", "https://xn--fsq.example", "chrome-extension://abc", "http://a:8080"]
)
def test_what_browsers_send_is_taken(origin: str) -> None:
    """Addresses, international names as browsers encode them, and extensions."""
    assert CorsSettings(origins=[origin]).allows(origin)


def test_the_server_does_not_start_with_it() -> None:
    """Exit code 2, with the reason."""
    code, _, error = stagecast_says(
        "serve", "--bus", "memory://", environment={"STAGECAST_CORS_ORIGINS": "*", "STAGECAST_CORS_CREDENTIALS": "1"}
    )
    assert code == 2
    assert "exact origins" in error


def test_nothing_configured_is_nothing_allowed() -> None:
    """No origin is allowed, and credentials without one are refused."""
    assert not CorsSettings().allows(PAGE)
    with pytest.raises(NotConfigured, match="exact origins"):
        CorsSettings(credentials=True)
