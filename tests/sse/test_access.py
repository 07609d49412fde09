"""The routes that ask a policy, those that don't, what a denial tells, and what happens when access ends."""

import asyncio
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from stagecast.adapters.jwt import JwtAccessPolicy
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.access import Access, AccessRequest
from stagecast.domain.bus import BusLimits
from stagecast.domain.topics import Topic
from stagecast.entrypoints.configuration import AccessSettings
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.testing.actors import Producer
from stagecast.entrypoints.wiring import CODEC
from tests.reading import rebuilt
from tests.sse.browser import project_path, request, stage_path
from tests.sse.serving import Served, served
from tests.sse.tokens import SECRET, bearer, token

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def guarded(shared_bus: MemoryBus) -> Iterator[Served]:
    """A server with the JWT policy."""
    app = create_app(shared_bus, JwtAccessPolicy(SECRET), settings=EdgeSettings(heartbeat=0.1))
    with served(app) as server:
        yield server


async def test_without_a_policy_the_authorised_routes_answer_401(edge: Served, project: str) -> None:
    """They never serve what nobody has granted, whatever the credentials."""
    for path in (stage_path(project) + "stream/", project_path(project) + "stream/"):
        async with request(edge.port, path, bearer(token(projects="*"))) as response:
            assert response.status == 401
            assert response.headers["www-authenticate"].startswith("Bearer")


async def test_a_policy_guards_the_streams(guarded: Served, project: str) -> None:
    """R46, R138: 401 and 403 are decided before the first byte, with a JSON body, also for an EventSource."""
    mine = token(projects=[project])
    for path in (stage_path(project) + "stream/", project_path(project) + "stream/"):
        for headers, status in (
            ({}, 401),
            (bearer(""), 401),
            (bearer("garbage"), 401),
            (bearer("é"), 401),
            (bearer(mine, "Basic"), 401),
            ({"Authorization": f"Bearer\t{mine}"}, 401),
            ({"Authorization": f"Bearer {mine}", "authorization": f"Bearer {mine}"}, 401),
            (bearer(token(projects=[project], seconds=-1)), 401),
            (bearer(token(projects=["other"])), 403),
            ({"Cookie": "stagecast_token=garbage"}, 401),
            ({"Cookie": f"stagecast_token={token(projects=['other'])}"}, 403),
            ({**bearer("garbage"), "Cookie": f"stagecast_token={mine}"}, 401),
        ):
            async with request(guarded.port, path, {**STREAM, **headers}) as response:
                assert response.status == status, headers
                assert response.headers["content-type"] == "application/problem+json"
                assert (status == 401) == ("www-authenticate" in response.headers)
        for headers in (
            bearer(mine),
            bearer(mine, "bearer"),
            bearer(mine, "BEARER"),
            bearer(f"  {mine} "),
            {"Cookie": f"a=b; stagecast_token={mine}"},
            {**bearer("eA==", "Basic"), "Cookie": f"stagecast_token={mine}"},
            {**bearer(mine), "Cookie": "stagecast_token=garbage"},
        ):
            async with request(guarded.port, path, {**STREAM, **headers}) as response:
                assert response.status == 200, headers
                assert (await response.next()).message["type"] == "connected"
        async with request(guarded.port, path, method="HEAD") as response:
            assert response.status == 401


async def test_the_open_routes_are_gone_where_there_is_a_policy(guarded: Served, project: str) -> None:
    """404 with and without a token, which says where the streams are: nothing leaks past the policy."""
    for path in (stage_path(project), project_path(project)):
        for headers in ({}, STREAM, bearer(token(projects="*")), {"Cookie": f"stagecast_token={token(projects='*')}"}):
            async with request(guarded.port, path, headers) as response:
                assert response.status == 404
                assert "stream/" in (await response.body())["detail"]


@pytest.mark.parametrize("by", ["argument", "settings", "environment"])
async def test_the_open_routes_may_stay_open(
    shared_bus: MemoryBus, project: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named, they are as the seed has them: to everybody; those with `stream/` ask all the same."""
    options: dict[str, Any] = {}
    if by == "argument":
        options["open_routes"] = True
    elif by == "settings":
        options["access"] = AccessSettings(open_routes=True)
    else:
        monkeypatch.setenv("STAGECAST_ACCESS_OPEN_ROUTES", "1")
    with served(create_app(shared_bus, JwtAccessPolicy(SECRET), **options)) as server:
        for path in (stage_path(project), project_path(project)):
            async with request(server.port, path) as response:
                assert response.status == 200
            async with request(server.port, path + "stream/") as response:
                assert response.status == 401


async def test_a_denial_tells_nothing(guarded: Served, shared_bus: MemoryBus, project: str) -> None:
    """Status, headers and body are the same for a project that runs and for one that nobody has heard of."""
    await Producer(Topic(project, "rewrite")).write(shared_bus, "secret")
    unknown = f"{project}-unknown"
    for headers in ({}, bearer("garbage"), bearer(token(projects=["other"])), bearer(token(projects="*", stages=[]))):
        for path_of in (stage_path, project_path):
            told = []
            for name in (project, unknown):
                path = f"{path_of(name)}stream/?run=some&last_event_id=1-1"
                async with request(guarded.port, path, headers) as response:
                    body = {key: str(value).replace(name, "") for key, value in (await response.body()).items()}
                    kept = [one for one in response.header_list if one[0] not in {"date", "content-length"}]
                    told.append((response.status, kept, body))
            assert told[0] == told[1]
            assert told[0][0] in {401, 403}


async def test_the_policy_is_asked_before_the_bus(project: str) -> None:
    """Where the bus is away, who may not see is told that, and only who may is asked to come back."""
    app = create_app("redis://127.0.0.1:1/0", JwtAccessPolicy(SECRET), settings=EdgeSettings(patience=0.2))
    with served(app) as server:
        path = stage_path(project) + "stream/"
        for headers, status in (({}, 401), (bearer(token(projects=["x"])), 403), (bearer(token(projects="*")), 503)):
            async with request(server.port, path, headers) as response:
                assert response.status == status


async def test_an_invalid_id_is_refused_before_the_policy_is_asked(guarded: Served) -> None:
    """400, with and without credentials."""
    async with request(guarded.port, stage_path("a%20b") + "stream/") as response:
        assert response.status == 400


async def test_a_connection_ends_when_its_token_expires(guarded: Served, shared_bus: MemoryBus, project: str) -> None:
    """R145: with `access_expired` and no `stream_end`; with a new token the client gets exactly the rest."""
    producer = Producer(Topic(project, "rewrite"))
    path = stage_path(project) + "stream/"
    messages = []
    async with request(guarded.port, path, bearer(token(projects=[project], seconds=2.5))) as browser:
        messages += await browser.take(1)
        for letter in "abc":
            await producer.write(shared_bus, letter)
        messages += await browser.take(3)
        seen = browser.stream.last_event_id
        *rest, last = await browser.rest()
        assert rest == []
        assert last == {"type": "access_expired", "project_id": project, "message": last["message"]}
        assert browser.stream.last_event_id == seen
        assert browser.ended
    await producer.write(shared_bus, "d")
    async with request(guarded.port, path, bearer(token(projects=[project], seconds=-1))) as browser:
        assert browser.status == 401
    async with request(guarded.port, f"{path}?last_event_id={seen}", bearer(token(projects="*"))) as browser:
        messages += await browser.take(2)
        await producer.write(shared_bus, "e")
        messages += await browser.take(1)
    assert [one["content"] for one in messages if one["type"] == "token"] == list("abcde")
    assert rebuilt(messages) == "abcde"


async def test_the_environment_configures_the_policy(
    shared_bus: MemoryBus, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STAGECAST_JWT_SECRET is all that is needed."""
    monkeypatch.setenv("STAGECAST_JWT_SECRET", SECRET)
    with served(create_app(shared_bus)) as server:
        path = stage_path(project) + "stream/"
        async with request(server.port, path, bearer(token(projects=[project]))) as response:
            assert response.status == 200
        async with request(server.port, path) as response:
            assert response.status == 401
        async with request(server.port, stage_path(project)) as response:
            assert response.status == 404


class Answering:
    """A policy that answers what it is told, raises it where it is an error, and waits where it is nothing."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def authorize(self, request: AccessRequest) -> Access:
        if self.answer is Ellipsis:
            await asyncio.sleep(3600)
        if isinstance(self.answer, Exception):
            raise self.answer
        answer: Access = self.answer
        return answer


@pytest.mark.parametrize(
    "answer",
    [
        ConnectionError("the database is away"),
        TimeoutError("slow"),
        ...,
        None,
        False,
        True,
        "ann",
        {"principal": "ann"},
        SimpleNamespace(principal="ann", expires_at=None),
    ],
    ids=str,
)
async def test_a_policy_that_fails_grants_nothing(project: str, answer: Any) -> None:
    """An error of its own, silence and an answer that is none count as temporary: 503, or a time to come back at."""
    bus = MemoryBus(CODEC, BusLimits())
    with served(create_app(bus, Answering(answer), settings=EdgeSettings(patience=0.2))) as server:
        for path in (stage_path(project) + "stream/", project_path(project) + "stream/"):
            async with request(server.port, path) as response:
                assert response.status == 503
                assert "ann" not in str(await response.body())
            async with request(server.port, path, STREAM) as response:
                assert await response.rest() == []
                assert response.stream.retry is not None
        async with request(server.port, f"/api/v1/projects/{project}/stages/a/cancel", method="POST") as response:
            assert response.status == 503


@pytest.mark.parametrize(
    ("expires_at", "status"),
    [(None, 200), (4e9, 200), (0.0, 401), (-math.inf, 401), (math.nan, 401)],
)
async def test_a_grant_that_is_over_is_none(project: str, expires_at: float | None, status: int) -> None:
    """Whatever the policy says besides."""
    bus = MemoryBus(CODEC, BusLimits())
    with served(create_app(bus, Answering(Access(principal="ann", expires_at=expires_at)))) as server:
        async with request(server.port, stage_path(project) + "stream/") as response:
            assert response.status == status


async def test_who_is_nobody_in_particular_is_not_counted(project: str) -> None:
    """Tokens without `sub` are no single principal, whose streams would keep each other away."""
    bus, settings = MemoryBus(CODEC, BusLimits()), EdgeSettings(principal_connections=1)
    path = stage_path(project) + "stream/"
    with served(create_app(bus, JwtAccessPolicy(SECRET), settings=settings)) as server:
        expected: list[tuple[dict[str, Any], int]] = [({}, 200), ({"sub": ""}, 200), ({"sub": "ann"}, 429)]
        for claims, status in expected:
            headers = bearer(token(projects="*", **claims))
            async with request(server.port, path, headers) as first, request(server.port, path, headers) as second:
                assert (first.status, second.status) == (200, status)
