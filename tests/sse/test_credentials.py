"""Credentials where they may be: cookies of our own pages, and no token in a URL."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from stagecast.adapters.jwt import JwtAccessPolicy
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.access import Access, AccessRequest
from stagecast.domain.errors import Unauthenticated
from stagecast.entrypoints.sse import CorsSettings, create_app
from tests.sse.browser import project_path, request, stage_path
from tests.sse.serving import Served, served
from tests.sse.tokens import SECRET, bearer, token

PAGE, EVIL = "https://app.example", "https://evil.example"
HOST = "stream.example"
NAMES = ["token", "access_token", "jwt", "bearer", "authorization", "api_key", "Token", "ACCESS_TOKEN"]


class Sessions:
    """A team's own policy: who has a session may do everything. It remembers what it was shown."""

    def __init__(self) -> None:
        self.asked: list[AccessRequest] = []

    async def authorize(self, request: AccessRequest) -> Access:
        self.asked.append(request)
        if request.token != "of a program" and request.cookies.get("sessionid") != "of ann":
            raise Unauthenticated("no session")
        return Access(principal="ann")


SESSIONS = Sessions()
CORS = CorsSettings(origins=[PAGE], credentials=True)


@pytest.fixture(scope="module")
def guarded(shared_bus: MemoryBus) -> Iterator[Served]:
    with served(create_app(shared_bus, JwtAccessPolicy(SECRET), cors=CORS)) as server:
        yield server


@pytest.fixture(scope="module")
def with_sessions(shared_bus: MemoryBus) -> Iterator[Served]:
    with served(create_app(shared_bus, SESSIONS, cors=CORS)) as server:
        yield server


FROM: list[tuple[dict[str, str], bool]] = [
    # What is no browser, and our own pages: an EventSource of the same origin sends no Origin.
    ({}, True),
    ({"Sec-Fetch-Site": "same-origin"}, True),
    ({"Sec-Fetch-Site": "same-site"}, True),
    ({"Sec-Fetch-Site": "none"}, True),
    ({"Origin": f"http://{HOST}"}, True),
    ({"Origin": f"http://{HOST}", "Host": f"{HOST}:80"}, True),
    ({"Origin": f"http://{HOST}:8000", "Host": f"{HOST}:8000"}, True),
    ({"Origin": f"https://{HOST}"}, True),  # TLS ended at a proxy
    ({"Origin": f"https://{HOST}", "Host": HOST, "X-Forwarded-Proto": "https"}, True),
    ({"Origin": f"https://{HOST.upper()}"}, True),
    # Pages of a configured origin.
    ({"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}, True),
    # All others.
    ({"Origin": EVIL}, False),
    ({"Origin": EVIL, "Sec-Fetch-Site": "same-origin"}, False),
    ({"Origin": "null"}, False),
    ({"Origin": ""}, False),
    ({"Origin": "http://"}, False),
    ({"Origin": "http://["}, False),
    ({"Origin": HOST}, False),
    ({"Origin": f"http://{HOST}:8080"}, False),
    ({"Origin": f"http://{HOST}.evil.example"}, False),
    ({"Origin": f"http://evil.example/{HOST}"}, False),
    ({"Origin": f"ftp://{HOST}"}, False),
    ({"Origin": f"http://{HOST}", "X-Forwarded-Proto": "https"}, False),  # a page that anybody in the network may write
    ({"Origin": f"{PAGE}:8443"}, False),
    ({"Origin": f"{PAGE} {EVIL}"}, False),
    ({"Sec-Fetch-Site": "cross-site"}, False),
    ({"Sec-Fetch-Site": "Cross-Site"}, False),
]


@pytest.mark.parametrize(("sent", "counts"), FROM)
async def test_a_cookie_counts_for_pages_that_may(
    guarded: Served, with_sessions: Served, project: str, sent: dict[str, str], counts: bool
) -> None:
    """A browser sends it whichever page asks; another page than ours gets 403, though the cookie is right."""
    for server, cookie in ((guarded, f"stagecast_token={token(projects='*')}"), (with_sessions, "sessionid=of ann")):
        for path in (stage_path(project), project_path(project)):
            async with request(server.port, path + "stream/", {"Host": HOST, **sent, "Cookie": cookie}) as response:
                assert response.status == (200 if counts else 403)


@pytest.mark.parametrize(("sent", "counts"), FROM)
async def test_nobody_cancels_by_a_foreign_page(
    guarded: Served, with_sessions: Served, project: str, sent: dict[str, str], counts: bool
) -> None:
    """The same for what changes something."""
    path = f"/api/v1/projects/{project}/stages/rewrite/cancel"
    mine = token(projects=[project], actions=["cancel"])
    for server, cookie in ((guarded, f"stagecast_token={mine}"), (with_sessions, "sessionid=of ann")):
        headers = {"Host": HOST, **sent, "Cookie": cookie}
        async with request(server.port, path, headers, method="POST") as response:
            assert response.status == (200 if counts else 403)


async def test_an_own_token_counts_whichever_page_sends_it(with_sessions: Served, project: str) -> None:
    """No page can take that from its visitor's browser; a foreign page's cookies are not shown to the policy."""
    path = stage_path(project) + "stream/"
    SESSIONS.asked.clear()
    for sent in ({"Origin": EVIL}, {"Origin": PAGE}):
        headers = {"Host": HOST, **sent, "Cookie": "sessionid=of ann; other=1", **bearer("of a program")}
        async with request(with_sessions.port, path, headers) as response:
            assert response.status == 200
    assert [dict(one.cookies) for one in SESSIONS.asked] == [{}, {"sessionid": "of ann", "other": "1"}]
    async with request(
        with_sessions.port, path, {"Host": HOST, "Origin": EVIL, "Cookie": "sessionid=of ann"}
    ) as response:
        assert response.status == 403
    assert len(SESSIONS.asked) == 2


async def test_a_policy_is_told_all_that_it_needs(with_sessions: Served, project: str) -> None:
    """Project, stage, action, token and cookies; and nothing of them is in a record's text."""
    SESSIONS.asked.clear()
    cancel = f"/api/v1/projects/{project}/stages/rewrite/cancel"
    headers = {"Cookie": "sessionid=of ann"}
    for path, method in ((stage_path(project) + "stream/", "GET"), (project_path(project) + "stream/", "GET")):
        async with request(with_sessions.port, path, headers, method=method) as response:
            assert response.status == 200
    async with request(with_sessions.port, cancel, headers, method="POST") as response:
        assert response.status == 200
    asked = [(one.project, one.stage, one.action, one.token, one.cookies["sessionid"]) for one in SESSIONS.asked]
    assert asked == [
        (project, "rewrite", "read", None, "of ann"),
        (project, None, "read", None, "of ann"),
        (project, "rewrite", "cancel", None, "of ann"),
    ]
    assert not [one for one in SESSIONS.asked if "of ann" in repr(one)]


@pytest.mark.parametrize("origins", [["*"], ["null"], [EVIL.replace("evil", "other")]])
async def test_no_wildcard_lets_cookies_in(shared_bus: MemoryBus, project: str, origins: list[str]) -> None:
    """`*` and `null` let pages read what everybody may, and name none whose cookies count."""
    cookie = {"Cookie": f"stagecast_token={token(projects='*')}"}
    with served(create_app(shared_bus, JwtAccessPolicy(SECRET), cors=CorsSettings(origins=origins))) as server:
        for origin, status in ((EVIL, 403), ("null", 403), (f"http://{HOST}", 200)):
            sent = {"Host": HOST, "Origin": origin, **cookie}
            async with request(server.port, stage_path(project) + "stream/", sent) as response:
                assert response.status == status


@pytest.mark.parametrize("name", NAMES)
async def test_a_token_in_the_query_is_refused(
    guarded: Served, project: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """R140: 400 with what to do instead, on every route and also beside a right token; it is repeated nowhere."""
    caplog.set_level("DEBUG")
    everything = token(projects="*", actions=["read", "cancel"])
    cancel = f"/api/v1/projects/{project}/stages/rewrite/cancel"
    for path, method in (
        (stage_path(project) + "stream/", "GET"),
        (project_path(project) + "stream/", "GET"),
        (project_path(project) + "stream/", "HEAD"),
        (cancel, "POST"),
    ):
        for headers in ({}, bearer(everything)):
            query = f"?{name}={everything}"
            async with request(guarded.port, path + query, headers, method=method) as response:
                assert response.status == 400
                if method != "HEAD":
                    body: dict[str, Any] = await response.body()
                    assert "POST /api/v1/sse/tickets" in body["detail"]
                    assert everything not in str(body)
    assert everything not in caplog.text


async def test_a_token_in_the_query_opens_nothing_else(guarded: Served, edge: Served, project: str) -> None:
    """R140: tickets are given for a header alone; where nothing is guarded a query's fields mean nothing."""
    everything = token(projects="*", actions=["read", "cancel"])
    async with httpx.AsyncClient(base_url=f"http://localhost:{guarded.port}") as client:
        for params, headers, status in (
            ({"token": everything}, {}, 401),
            ({"ticket": "x"}, {}, 401),
            ({}, {"Cookie": f"stagecast_token={everything}"}, 401),
            ({"token": everything}, bearer(everything), 400),
            ({}, bearer(everything), 201),
        ):
            answer = await client.post(
                "/api/v1/sse/tickets", params=params, headers=headers, json={"project_id": project}
            )
            assert answer.status_code == status
    async with request(edge.port, stage_path(project, query=f"token={everything}")) as response:
        assert response.status == 200
