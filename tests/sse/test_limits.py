"""What one client may take: connections by address and principal, bytes by request. Each refusal has a passing twin."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.access import Access, AccessRequest
from stagecast.entrypoints.sse import CorsSettings, EdgeSettings, create_app
from stagecast.entrypoints.sse.hub import Hub
from stagecast.entrypoints.sse.locality import counted_as
from stagecast.entrypoints.sse.viewer import TooManyViewers, ViewRequest
from stagecast.entrypoints.wiring import CODEC
from tests.sse.browser import API, request, stage_path
from tests.sse.hubs import STAGE, hub_on, sit
from tests.sse.serving import Served, served
from tests.waiting import eventually

Headers = dict[str, str]
PLAIN = {"Accept": "*/*"}
OF = "X-Forwarded-For"


def refusals(server: Served) -> dict[tuple[int, str], int]:
    counts: dict[tuple[int, str], int] = server.app.state.edge.refusals.counts  # type: ignore[attr-defined]
    return dict(counts)


async def watched(stack: AsyncExitStack, server: Served, path: str, senders: Sequence[Headers]) -> None:
    """Streams that stay open, one with the headers of each."""
    for headers in senders:
        viewer = await stack.enter_async_context(request(server.port, path, headers))
        assert (await viewer.next()).message["type"] == "connected"


async def answer(server: Served, path: str, headers: Headers) -> int:
    async with request(server.port, path, {**PLAIN, **headers}) as response:
        if response.status == 200:
            await response.next()
            return 200
        assert response.headers["content-type"] == "application/problem+json"
        body = await response.body()
        assert body["status"] == response.status
        assert response.status != 429 or int(response.headers["retry-after"]) >= 1
        return response.status


# Connections


@pytest.mark.parametrize(
    ("others", "again", "another"),
    [
        (["203.0.113.7", "203.0.113.7"], "203.0.113.7", "203.0.113.8"),
        (["6.6.6.6, 203.0.113.7", "7.7.7.7, 203.0.113.7"], "203.0.113.7", "203.0.113.7, 6.6.6.6"),
        (["203.0.113.7:1", "203.0.113.7:2"], "203.0.113.7:3", "203.0.113.8:1"),
        (["2001:db8::1", "2001:db8::ffff:1"], "2001:db8:0:0:9::", "2001:db8:0:1::1"),
        (["[2001:db8::1]:1", "2001:db8::2"], "[2001:db8::3]:9", "2001:db9::1"),
        (["::ffff:203.0.113.7", "203.0.113.7"], "::ffff:203.0.113.7", "::ffff:203.0.113.8"),
    ],
)
async def test_streams_of_one_address(project: str, others: list[str], again: str, another: str) -> None:
    """The third from one address, or network of a site, gets 429, as a trusted proxy names it; others are let in."""
    app = create_app(MemoryBus(CODEC), settings=EdgeSettings(address_connections=2), allow_public=True)
    path = stage_path(project)
    with served(app) as server:
        async with AsyncExitStack() as stack:
            await watched(stack, server, path, [{OF: one} for one in others])
            assert await answer(server, path, {OF: again}) == 429
            assert await answer(server, path, {OF: another}) == 200
            assert refusals(server) == {(429, "address"): 1}
        await eventually(lambda: not next(iter(app.state.edge._hubs.values()))._addresses)
        assert await answer(server, path, {OF: again}) == 200


async def test_nobody_names_an_address_for_themselves(project: str) -> None:
    """What X-Forwarded-For says from an untrusted peer changes nothing; from a trusted one it does."""
    settings, path = EdgeSettings(address_connections=2), stage_path(project)
    claims = [{OF: f"203.0.113.{number}"} for number in range(3)]
    for trusted, expected in ("192.0.2.1", 429), ("192.0.2.0/24,127.0.0.0/8", 200):
        app = create_app(MemoryBus(CODEC), settings=settings, allow_public=True)
        with served(app, forwarded_allow_ips=trusted) as server:
            async with AsyncExitStack() as stack:
                await watched(stack, server, path, claims[:2])
                assert await answer(server, path, claims[2]) == expected


@pytest.mark.parametrize(
    ("client", "counted"),
    [
        (("203.0.113.7", 1), "203.0.113.7"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::"),
        (("fe80::1%eth0", 1), "fe80::"),
        (("::1", 1), "::"),
        (("::ffff:203.0.113.7", 1), "203.0.113.7"),
        (("unknown", 0), "unknown"),
        (("a:b:c", 0), "a:b:c"),
        (("", 0), None),
        (None, None),
    ],
)
def test_what_an_address_is_counted_as(client: tuple[str, int] | None, counted: str | None) -> None:
    """An IPv6 network of 64 bits is one client; who has no address is not counted."""
    assert counted_as({"client": client}) == counted


async def test_ten_thousand_viewers_of_one_address_are_admitted(hub: Hub) -> None:
    """By default one process takes as many from one address, anonymous, as it takes at all; no more."""
    for principal in None, "":
        for _ in range(5_000):
            await hub.join(ViewRequest(topic=STAGE, address="127.0.0.1", principal=principal))
    with pytest.raises(TooManyViewers) as refusal:
        await hub.join(ViewRequest(topic=STAGE, address="127.0.0.2"))
    assert refusal.value.limit == "connections"


async def test_each_limit_is_named(bus: MemoryBus) -> None:
    """Who is refused is told which limit it was, and nobody else is; one who leaves makes room."""
    sitting: dict[str, Any] = {"principal": "ann", "address": "192.0.2.1"}
    for limit in "project", "principal", "address":
        async with hub_on(bus, EdgeSettings(**{f"{limit}_connections": 2})) as hub:  # type: ignore[arg-type]
            first, _ = await sit(hub, **sitting), await sit(hub, **sitting)
            for _ in range(2):
                with pytest.raises(TooManyViewers) as refusal:
                    await sit(hub, **sitting)
                assert refusal.value.limit == limit
                first.viewer.leave()
                first = await sit(hub, **sitting)


class Named:
    """An access policy that takes everybody for the one whom the token names."""

    async def authorize(self, request: AccessRequest) -> Access:
        return Access(principal=request.token or "")


async def test_an_anonymous_viewer_is_no_principal(project: str) -> None:
    """Whom the policy gives no name does not share one with all others like that; of a name there may be one."""
    path = stage_path(project) + "stream/"
    with served(create_app(MemoryBus(CODEC), Named(), settings=EdgeSettings(principal_connections=1))) as server:
        async with AsyncExitStack() as stack:
            ann = {"Authorization": "Bearer ann"}
            await watched(stack, server, path, [{}, {}, {}, ann])
            assert await answer(server, path, ann) == 429
            assert await answer(server, path, {"Authorization": "Bearer bob"}) == 200
            assert refusals(server) == {(429, "principal"): 1}


# Sizes


@pytest.fixture(scope="module", params=["httptools", "h11"])
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    app = create_app(MemoryBus(CODEC), settings=EdgeSettings(url_bytes=1000, header_bytes=2000, patience=0.5))
    with served(app, http=request.param) as running:
        yield running


LONG = [
    pytest.param(f"{API}/p/stages/s/?x={{}}", {}, 414, "url", id="query"),
    pytest.param(f"{API}/p/stages/s/?run={{}}", {}, 414, "url", id="run"),
    pytest.param(f"{API}/{{}}/", {}, 414, "url", id="path"),
    pytest.param(f"{API}/p/", {"Last-Event-ID": "{}"}, 431, "headers", id="position"),
    pytest.param(f"{API}/p/", {"Cookie": "a={}"}, 431, "headers", id="cookie"),
    pytest.param(f"{API}/p/", {f"X-{number}": "{}" for number in range(8)}, 431, "headers", id="many"),
]
FITTING = {"query": 200, "run": 404, "path": 400, "position": 200, "cookie": 200, "many": 200}


@pytest.mark.parametrize(("path", "headers", "status", "reason"), LONG)
async def test_long_requests(
    server: Served,
    path: str,
    headers: Headers,
    status: int,
    reason: str,
    request: pytest.FixtureRequest,
) -> None:
    """Beyond its bound a path with its query gets 414, and headers get 431; shorter ones are answered as they are."""
    kind = request.node.callspec.id.rpartition("-")[2]

    async def asked(length: int) -> int:
        text = "a" * length
        return await answer(server, path.format(text), {name: value.format(text) for name, value in headers.items()})

    assert await asked(150) == FITTING[kind]
    before = refusals(server).get((status, reason), 0)
    assert await asked(2100) == status
    assert refusals(server)[status, reason] == before + 1


@pytest.mark.parametrize("announced", [True, False], ids=["Content-Length", "chunked"])
async def test_bodies(server: Served, announced: bool) -> None:
    """A body that nobody needs is read up to 4 KB, whatever its type; a larger one gets 413, and the server goes on."""

    async def chunks(size: int) -> AsyncIterator[bytes]:
        yield b"x" * size

    async def post(size: int) -> int:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=20) as client:
            content = b"x" * size if announced else chunks(size)
            told = await client.post(
                "/api/v1/projects/p/stages/s/cancel", content=content, headers={"Content-Type": "x/y"}
            )
        assert told.status_code < 400 or told.headers["content-type"] == "application/problem+json"
        return told.status_code

    assert await post(4096) == 200
    assert await post(4097) == 413
    assert await post(100_000) == 413
    assert await post(1) == 200


@pytest.mark.parametrize("length", ["4097", "-1", "9" * 5000, "1e3", "+5", "x"])
async def test_a_stream_is_asked_for_without_a_body(server: Served, length: str) -> None:
    """A GET that announces a large body, or one of no size, is refused by the application or before it."""
    async with request(server.port, stage_path("p"), {"Content-Length": length}) as response:
        assert response.status in {400, 413, 431}
    async with request(server.port, stage_path("p"), {"Content-Length": "0"}) as response:
        assert response.status == 200


async def test_a_body_that_does_not_come(server: Served) -> None:
    """Who announces a body and sends none is told so after the server's patience; others are answered meanwhile."""
    head = {"Content-Length": "10"}
    async with request(server.port, "/api/v1/projects/p/stages/s/cancel", head, method="POST") as response:
        assert response.status == 408
        assert (await response.body())["detail"] == "the body does not come"


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        (stage_path("p"), "POST", "GET, HEAD"),
        (f"{API}/p/", "DELETE", "GET, HEAD"),
        ("/api/v1/projects/p/stages/s/cancel", "GET", "POST"),
        ("/api/v1/projects/p/stages/s/cancel", "PUT", "POST"),
    ],
)
async def test_wrong_methods_are_counted(server: Served, path: str, method: str, allowed: str) -> None:
    """405 says what is allowed, and is one refusal of that kind."""
    before = refusals(server).get((405, "method"), 0)
    async with request(server.port, path, method=method) as response:
        assert (response.status, response.headers["allow"]) == (405, allowed)
        assert response.headers["content-type"] == "application/problem+json"
    assert refusals(server)[405, "method"] == before + 1


async def test_an_unknown_path_is_a_problem_and_counted(server: Served) -> None:
    """404 of the router itself has the same form."""
    before = refusals(server).get((404, "route"), 0)
    assert await answer(server, "/nowhere", {}) == 404
    assert refusals(server)[404, "route"] == before + 1


async def test_a_refused_preflight_is_counted() -> None:
    """400, among the others; one that is granted is none."""
    app = create_app(MemoryBus(CODEC), cors=CorsSettings(origins=["https://app.example"]))
    asking = {"Access-Control-Request-Method": "GET"}
    with served(app) as server:
        for origin, status in ("https://app.example", 204), ("https://evil.example", 400):
            async with request(
                server.port, stage_path("p"), {"Origin": origin, **asking}, method="OPTIONS"
            ) as response:
                assert response.status == status
        assert refusals(server) == {(400, "cors"): 1}
