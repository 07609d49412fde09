"""Who may follow what: the JWT policy, and the routes that ask a policy."""

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest

from stagecast.adapters.jwt import JwtAccessPolicy
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.access import Access, AccessRequest
from stagecast.domain.errors import AccessDenied, NotConfigured, Unauthenticated
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.testing.actors import Producer
from tests.sse.browser import project_path, request, stage_path
from tests.sse.serving import Served, served

SECRET = "a secret of the tests, long enough for HS256"
STREAM = {"Accept": "text/event-stream"}


def token(*, secret: str = SECRET, algorithm: str = "HS256", seconds: float | None = 60, **claims: Any) -> str:
    if seconds is not None:
        claims["exp"] = time.time() + seconds
    return jwt.encode(claims, secret, algorithm=algorithm)


def wish(credentials: str | None, project: str = "123") -> AccessRequest:
    return AccessRequest(project=project, stage=None, token=credentials)


@pytest.fixture(scope="module")
def policy() -> JwtAccessPolicy:
    return JwtAccessPolicy(SECRET)


@pytest.mark.parametrize("projects", [["123"], [123], ["7", "123"], "*"])
async def test_a_listed_project_is_granted(policy: JwtAccessPolicy, projects: object) -> None:
    """The claim `projects` is a list of ids, as text or numbers, or "*"; access ends with the token."""
    access = await policy.authorize(wish(token(projects=projects, sub="ann", seconds=60)))
    assert access.principal == "ann"
    assert access.expires_at is not None
    assert 50 < access.expires_at - time.time() <= 60


@pytest.mark.parametrize(
    "projects", [["124"], [], "123", None, {"123": True}, [True], [["123"]], ["*"], 123.0, ["12", "3"]]
)
async def test_another_project_is_denied(policy: JwtAccessPolicy, projects: object) -> None:
    """Whatever the claim is, only what it lists is granted."""
    with pytest.raises(AccessDenied):
        await policy.authorize(wish(token(projects=projects)))


UNTRUSTWORTHY: dict[str, Callable[[], str | None]] = {
    "none": lambda: None,
    "empty": lambda: "",
    "garbage": lambda: "garbage",
    "three parts": lambda: "a.b.c",
    "not ascii": lambda: "é.é.é",
    "surrogate": lambda: "\ud83d",
    "expired": lambda: token(projects="*", seconds=-1),
    "endless": lambda: token(projects="*", seconds=None),
    "another secret": lambda: token(projects="*", secret="another secret of the tests, long enough"),
    "no algorithm": lambda: token(projects="*", secret="", algorithm="none"),
    "another algorithm": lambda: token(projects="*", secret=SECRET * 2, algorithm="HS512"),
    "end is no number": lambda: token(projects="*", exp="soon", seconds=None),
    "not yet": lambda: token(projects="*", nbf=time.time() + 3600),
    "signature too long": lambda: token(projects="*") + "x",
    "no signature": lambda: token(projects="*").rpartition(".")[0] + ".",
}


@pytest.mark.parametrize("kind", UNTRUSTWORTHY)
async def test_an_untrustworthy_token_is_no_authentication(policy: JwtAccessPolicy, kind: str) -> None:
    """R138: expired, without an end, forged, of another algorithm or malformed; never another error."""
    with pytest.raises(Unauthenticated):
        await policy.authorize(wish(UNTRUSTWORTHY[kind]()))


def test_a_secret_that_cannot_be_one_is_refused() -> None:
    """An empty secret, or a public key, which whoever has it could sign with."""
    for secret in ("", "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----"):
        with pytest.raises(NotConfigured, match="secret"):
            JwtAccessPolicy(secret)


def test_a_short_secret_is_warned_of() -> None:
    """PyJWT says so when the server starts."""
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        JwtAccessPolicy("short")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyJWT the message says what to install."""
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(NotConfigured, match=r"pip install 'stagecast\[jwt\]'"):
        JwtAccessPolicy(SECRET)


@pytest.fixture(scope="module")
def guarded(shared_bus: MemoryBus) -> Iterator[Served]:
    """A server with the JWT policy."""
    app = create_app(shared_bus, JwtAccessPolicy(SECRET), settings=EdgeSettings(heartbeat=0.1))
    with served(app) as server:
        yield server


def bearer(credentials: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {credentials}"}


async def test_without_a_policy_the_authorised_routes_answer_401(edge: Served, project: str) -> None:
    """They never serve what nobody has granted, whatever the credentials."""
    for path in (stage_path(project) + "stream/", project_path(project) + "stream/"):
        async with request(edge.port, path, bearer(token(projects="*"))) as response:
            assert response.status == 401
            assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("suffix", ["stream/", ""])
async def test_a_policy_guards_all_routes(guarded: Served, shared_bus: MemoryBus, project: str, suffix: str) -> None:
    """R46, R138: 401 and 403 are decided before the first byte, with a JSON body, also for an EventSource."""
    mine = token(projects=[project])
    for path in (stage_path(project) + suffix, project_path(project) + suffix):
        for headers, status in (
            ({}, 401),
            (bearer(""), 401),
            (bearer("garbage"), 401),
            (bearer("é"), 401),
            (bearer(mine, "Basic"), 401),
            (bearer(token(projects=[project], seconds=-1)), 401),
            (bearer(token(projects=["other"])), 403),
            ({"Cookie": "stagecast_token=garbage"}, 401),
            ({"Cookie": f"stagecast_token={token(projects=['other'])}"}, 403),
        ):
            async with request(guarded.port, path, {**STREAM, **headers}) as response:
                assert response.status == status, headers
                assert response.headers["content-type"] == "application/problem+json"
                assert (status == 401) == ("www-authenticate" in response.headers)
        for headers in (
            bearer(mine),
            bearer(mine, "bearer"),
            bearer(f"  {mine} "),
            {"Cookie": f"a=b; stagecast_token={mine}"},
            {**bearer("eA==", "Basic"), "Cookie": f"stagecast_token={mine}"},
        ):
            async with request(guarded.port, path, {**STREAM, **headers}) as response:
                assert response.status == 200, headers
                assert (await response.next()).message["type"] == "connected"
        async with request(guarded.port, path, method="HEAD") as response:
            assert response.status == 401


async def test_a_token_in_the_query_is_ignored(guarded: Served, project: str) -> None:
    """R140: URLs end up in logs, so nothing is granted by them."""
    async with request(guarded.port, stage_path(project, query=f"token={token(projects='*')}")) as response:
        assert response.status == 401


async def test_an_invalid_id_is_refused_before_the_policy_is_asked(guarded: Served) -> None:
    """400, with and without credentials."""
    async with request(guarded.port, stage_path("a%20b") + "stream/") as response:
        assert response.status == 400


async def test_a_connection_ends_when_its_token_expires(guarded: Served, shared_bus: MemoryBus, project: str) -> None:
    """R145: without `stream_end`; with a new token the client goes on where it was."""
    producer = Producer(Topic(project, "rewrite"))
    path = stage_path(project) + "stream/"
    async with request(guarded.port, path, bearer(token(projects=[project], seconds=1.2))) as browser:
        await browser.next()
        await producer.write(shared_bus, "a")
        assert [message["type"] for message in await browser.rest()] == ["token"]
        seen = browser.stream.last_event_id
    await producer.write(shared_bus, "b")
    async with request(guarded.port, path, {**bearer(token(projects="*")), "Last-Event-ID": seen}) as browser:
        assert [message.get("content") for message in await browser.take(2)] == [None, "b"]


async def test_the_open_routes_may_stay_open(shared_bus: MemoryBus, project: str) -> None:
    """`open_routes` leaves the seed's routes without authorisation as they were."""
    with served(create_app(shared_bus, JwtAccessPolicy(SECRET), open_routes=True)) as server:
        async with request(server.port, stage_path(project)) as response:
            assert response.status == 200
        async with request(server.port, stage_path(project) + "stream/") as response:
            assert response.status == 401


async def test_the_environment_configures_the_policy(
    shared_bus: MemoryBus, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STAGECAST_JWT_SECRET is all that is needed."""
    monkeypatch.setenv("STAGECAST_JWT_SECRET", SECRET)
    with served(create_app(shared_bus)) as server:
        async with request(server.port, stage_path(project) + "stream/", bearer(token(projects=[project]))) as response:
            assert response.status == 200
        async with request(server.port, stage_path(project)) as response:
            assert response.status == 401


class BrokenPolicy:
    """A policy whose database is away."""

    async def authorize(self, request: AccessRequest) -> Access:
        raise ConnectionError("the database is away")


async def test_a_policy_that_fails_grants_nothing(shared_bus: MemoryBus, project: str) -> None:
    """An error of its own counts as temporary: 503, and for an EventSource a stream that asks it to come back."""
    with served(create_app(shared_bus, BrokenPolicy())) as server:
        async with request(server.port, stage_path(project)) as response:
            assert response.status == 503
        async with request(server.port, stage_path(project), STREAM) as response:
            assert await response.rest() == []
            assert response.stream.retry is not None
