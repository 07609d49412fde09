"""A policy by import path, as a team with its own sessions configures it."""

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from stagecast.adapters.callables import CallablePolicy
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.access import AccessRequest
from stagecast.domain.errors import AccessDenied, NotConfigured, Unauthenticated
from stagecast.entrypoints.sse import configured_policy, create_app
from tests.sse.browser import request, stage_path
from tests.sse.programs import SERVE, running
from tests.sse.serving import served
from tests.sse.test_cli import stagecast_says
from tests.sse.tokens import SECRET

OWN = """
from stagecast.domain.access import Access
from stagecast.domain.errors import Unauthenticated

SESSIONS = {"of-ann": {"123"}}


def by_session(request):
    session = request.cookies.get("sessionid")
    if session is None:
        raise Unauthenticated("log in first")
    if request.project in SESSIONS.get(session, ()) and request.action == "read":
        return session


async def by_session_later(request):
    return by_session(request)


class Policy:
    async def authorize(self, request):
        name = by_session(request)
        return Access(principal=name) if name else None


policy = Policy()


def broken(request):
    raise KeyError("hunter2")


nothing = None
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module `own_access` that can be imported."""
    (tmp_path / "own_access.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("own_access", None)


@pytest.mark.parametrize("name", ["by_session", "by_session_later", "Policy", "policy"])
async def test_it_decides_by_its_own_session(
    shared_bus: MemoryBus, own: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STAGECAST_ACCESS_POLICY names it: 401 where it says so, 403 where it grants nothing, 200 for whom it names."""
    monkeypatch.setenv("STAGECAST_ACCESS_POLICY", f"own_access:{name}")
    with served(create_app(shared_bus)) as server:
        ann = {"Cookie": "sessionid=of-ann"}
        for project, headers, status in (
            ("123", {}, 401),
            ("123", {"Cookie": "sessionid=of-bob"}, 403),
            ("124", ann, 403),
            ("123", {**ann, "Origin": "https://evil.example"}, 403),
            ("123", ann, 200),
        ):
            async with request(server.port, stage_path(project) + "stream/", headers) as response:
                assert response.status == status
        async with request(server.port, "/api/v1/projects/123/stages/a/cancel", ann, method="POST") as response:
            assert response.status == 403
        async with request(server.port, stage_path("123"), ann) as response:
            assert response.status == 404


async def test_its_own_errors_are_temporary(
    shared_bus: MemoryBus, own: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """503, and their text is for the log alone."""
    monkeypatch.setenv("STAGECAST_ACCESS_POLICY", "own_access:broken")
    with served(create_app(shared_bus)) as server:
        async with request(server.port, stage_path("123") + "stream/") as response:
            assert response.status == 503
            assert "hunter2" not in str(await response.body())
    assert "hunter2" in caplog.text


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("own_access", "package.module:name"),
        ("own_access:", "package.module:name"),
        (":by_session", "package.module:name"),
        ("own_access:nobody", "nobody"),
        ("own_access:nothing", "no function"),
        ("nowhere.access:policy", "nowhere"),
        ("own_broken:policy", "ZeroDivisionError"),
        (".own_access:policy", "own_access"),
    ],
)
def test_what_cannot_be_had_is_refused(own: Path, path: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the server starts, not when somebody comes."""
    monkeypatch.setenv("STAGECAST_ACCESS_POLICY", path)
    with pytest.raises(NotConfigured, match=reason):
        create_app("memory://")


def test_there_is_one_policy(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a JWT key beside it nobody knows which is meant."""
    monkeypatch.setenv("STAGECAST_ACCESS_POLICY", "own_access:policy")
    assert configured_policy() is not None
    monkeypatch.setenv("STAGECAST_JWT_SECRET", SECRET)
    with pytest.raises(NotConfigured, match="two access policies"):
        configured_policy()


@pytest.mark.parametrize("name", ["ISSUER", "AUDIENCE", "LEEWAY", "ALGORITHMS", "FORMER_SECRETS"])
def test_settings_of_a_policy_without_a_key_are_no_open_door(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sets the issuer and forgets the key gets no server, rather than one that everybody may read."""
    assert configured_policy() is None
    monkeypatch.setenv(
        f"STAGECAST_JWT_{name}", "2" if name == "LEEWAY" else "HS512" if name == "ALGORITHMS" else SECRET
    )
    with pytest.raises(NotConfigured, match="secret"):
        configured_policy()


def test_the_server_finds_it_where_it_is_started(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`stagecast serve` imports from the current folder; a wrong path is one line and exit code 2; it may be public."""
    monkeypatch.chdir(own)

    async def found(port: int) -> list[int]:
        statuses = []
        for headers in ({}, {"Cookie": "sessionid=of-ann"}):
            async with request(port, stage_path("123") + "stream/", headers) as response:
                statuses.append(response.status)
        return statuses

    environment = {"STAGECAST_BUS": "memory://", "STAGECAST_ACCESS_POLICY": "own_access:policy"}
    with running(SERVE, environment) as program:
        assert asyncio.run(found(program.port)) == [401, 200]
    code, _, error = stagecast_says(
        "serve", "--host", "0.0.0.0", environment={**environment, "STAGECAST_ACCESS_POLICY": "own_access:nobody"}
    )
    assert (code, error.count("\n")) == (2, 1)
    assert "own_access:nobody" in error


async def test_the_documentation_shows_one() -> None:
    """The function of docs/configuration.md does what its comments say."""
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    policy = CallablePolicy.of(names["may_watch"], "shop.streams:may_watch")
    asked = AccessRequest(project="123", stage=None, token=None, cookies={"sessionid": "7"})
    assert (await policy.authorize(asked)).principal == "visitor-7"
    for other, error in (({"cookies": {}}, Unauthenticated), ({"project": "124"}, AccessDenied)):
        with pytest.raises(error):
            await policy.authorize(evolve(asked, **other))
