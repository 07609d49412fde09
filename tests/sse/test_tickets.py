"""Tickets for an EventSource, which has no headers: who gets one, what it opens, and that it does so once."""

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from stagecast.adapters.jwt import JwtAccessPolicy
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.topics import Topic
from stagecast.entrypoints.configuration import AccessSettings
from stagecast.entrypoints.sse import CorsSettings, EdgeSettings, create_app
from stagecast.entrypoints.testing.actors import Producer
from tests.sse.browser import project_path, request, stage_path
from tests.sse.serving import Served, served
from tests.sse.tickets import TICKETS, asked, given, status
from tests.sse.tokens import SECRET, bearer, token
from tests.waiting import eventually

PAGE = "https://app.example"


@pytest.fixture(scope="module")
def guarded(shared_bus: MemoryBus) -> Iterator[Served]:
    with served(create_app(shared_bus, JwtAccessPolicy(SECRET))) as server:
        yield server


async def test_a_ticket_opens_its_stream_once(guarded: Served, shared_bus: MemoryBus, project: str) -> None:
    """201 with the ticket, its seconds and the URL for an EventSource; the second time, and by HEAD, 401."""
    producer = Producer(Topic(project, "rewrite"))
    for stage in ("rewrite", None):
        body = {"project_id": project, "stage_name": stage}
        answer = await asked(guarded.port, body, token(projects=[project]))
        assert answer.status_code == 201
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json().keys() == {"ticket", "expires_in", "url"}
        assert 25 <= answer.json()["expires_in"] <= 30
        url = answer.json()["url"]
        assert parse_qs(urlsplit(url).query) == {"ticket": [answer.json()["ticket"]]}
        assert urlsplit(url).path == (stage_path(project) if stage else project_path(project)) + "stream/"
        async with request(guarded.port, url) as browser:
            assert browser.status == 200
            await browser.next()
            await producer.write(shared_bus, "a")
            await browser.until_type("token")
            assert await status(guarded.port, url) == 401
        for method in ("GET", "HEAD"):
            assert await status(guarded.port, url, method) == 401


async def test_of_many_at_once_one_is_let_in(guarded: Served, project: str) -> None:
    """Whoever is first."""
    url = await given(guarded.port, project)
    found = await asyncio.gather(*(status(guarded.port, url) for _ in range(10)))
    assert sorted(found) == [200, *[401] * 9]


async def test_a_ticket_opens_its_own_topic_alone(guarded: Served, project: str) -> None:
    """403 for another stage, the whole project or another project, which uses nothing up; the topic itself 200."""
    url = await given(guarded.port, project)
    query = f"?{urlsplit(url).query}"
    others = (stage_path(project, "video"), project_path(project), stage_path("other"), project_path("other"))
    for other in others:
        assert await status(guarded.port, other + "stream/" + query) == 403
    assert await status(guarded.port, url) == 200
    whole = f"?{urlsplit(await given(guarded.port, project, None)).query}"
    assert await status(guarded.port, stage_path(project) + "stream/" + whole) == 403
    assert await status(guarded.port, project_path(project) + "stream/" + whole) == 200


async def test_a_ticket_only_reads(guarded: Served, project: str) -> None:
    """R140: it cancels nothing and gets no further ticket, whatever its token could: 401."""
    url = await given(guarded.port, project, actions=["read", "cancel"])
    query = f"?{urlsplit(url).query}"
    for path in (f"/api/v1/projects/{project}/stages/rewrite/cancel", TICKETS):
        assert await status(guarded.port, path + query, "POST") == 401
    assert await status(guarded.port, url) == 200


@pytest.mark.parametrize("change", ["shorter", "longer", "empty", "nonsense", "another body"])
async def test_a_forged_ticket_is_refused(guarded: Served, project: str, change: str) -> None:
    """401, and the true one still counts."""
    url = await given(guarded.port, project)
    path, _, ticket = url.partition("?ticket=")
    forged = {
        "shorter": ticket[:-1],
        "longer": ticket + "A",
        "empty": "",
        "nonsense": "%C3%A9.%00",
        "another body": "A" + ticket,
    }[change]
    assert await status(guarded.port, f"{path}?ticket={forged}") == 401
    assert await status(guarded.port, url) == 200


async def test_a_token_counts_before_a_ticket(guarded: Served, project: str) -> None:
    """A right one leaves the ticket unused, a wrong one is refused though the ticket is right."""
    url = await given(guarded.port, project)
    assert await status(guarded.port, url, **bearer(token(projects="*"))) == 200
    assert await status(guarded.port, url, **bearer("garbage")) == 401
    assert await status(guarded.port, url, Cookie="stagecast_token=garbage", Origin="https://evil.example") == 200


REFUSED: dict[str, tuple[Any, dict[str, Any], int]] = {
    "no token": ({"project_id": "1"}, {"credentials": ""}, 401),
    "a wrong token": ({"project_id": "1"}, {"credentials": "garbage"}, 401),
    "another project": ({"project_id": "1"}, {"projects": ["2"]}, 403),
    "another stage": ({"project_id": "1", "stage_name": "a"}, {"stages": ["b"]}, 403),
    "all of a stage": ({"project_id": "1"}, {"stages": ["b"]}, 403),
    "no reading": ({"project_id": "1"}, {"actions": ["cancel"]}, 403),
    "no topic": ({}, {}, 400),
    "no object": (["1"], {}, 400),
    "no JSON": (b"project_id=1", {}, 400),
    "no body": (b"", {}, 400),
    "not UTF-8": (b'{"project_id": "\xff"}', {}, 400),
    "deep": (b"[" * 4000, {}, 400),
    "a list": ({"project_id": ["1"]}, {}, 400),
    "a bool": ({"project_id": True}, {}, 400),
    "nothing": ({"project_id": None}, {}, 400),
    "a separator": ({"project_id": "1:2"}, {}, 400),
    "a glob": ({"project_id": "*"}, {}, 400),
    "an empty stage": ({"project_id": "1", "stage_name": ""}, {}, 400),
    "too large": ({"project_id": "1", "more": "x" * 5000}, {}, 413),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_who_may_not_read_gets_none(guarded: Served, kind: str) -> None:
    """The token decides as for the stream itself; what names no topic is refused, and nothing is a 500."""
    body, claims, expected = REFUSED[kind]
    credentials = claims.pop("credentials") if "credentials" in claims else token(**{"projects": "*", **claims})
    answer = await asked(guarded.port, body, credentials)
    assert answer.status_code == expected
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await asked(guarded.port, {"project_id": 1})).status_code == 201


async def test_an_endless_body_is_not_read_to_its_end(shared_bus: MemoryBus) -> None:
    """413 after 4 KB of one without a length, 408 for one that does not come; without a token nothing is read."""
    settings = EdgeSettings(patience=0.5)
    with served(create_app(shared_bus, JwtAccessPolicy(SECRET), settings=settings)) as server:
        for credentials, part, expected in (
            (bearer(token(projects="*")), b"1000\r\n" + b"x" * 0x1000 + b"\r\n5\r\nxxxxx\r\n", b" 413 "),
            (bearer(token(projects="*")), b"", b" 408 "),
            ({}, b"", b" 401 "),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            head = [f"POST {TICKETS} HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked"]
            head += [f"{name}: {value}" for name, value in credentials.items()]
            writer.write("\r\n".join([*head, "", ""]).encode() + part)
            async with asyncio.timeout(20):
                assert expected in await reader.readline()
            writer.close()


async def test_who_goes_in_mid_body_is_no_problem_of_ours(
    shared_bus: MemoryBus, caplog: pytest.LogCaptureFixture
) -> None:
    """A line that says so, and no trace of an error."""
    with served(create_app(shared_bus, JwtAccessPolicy(SECRET))) as server:
        caplog.set_level("INFO")
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = [f"POST {TICKETS} HTTP/1.1", "Host: localhost", "Content-Length: 100"]
        head.append(f"Authorization: Bearer {token(projects='*')}")
        writer.write("\r\n".join([*head, "", "{"]).encode())
        await writer.drain()
        writer.close()
        await eventually(lambda: "the body does not come" in caplog.text, 20)
        assert (await asked(server.port, {"project_id": 1})).status_code == 201
    assert "could not be answered" not in caplog.text


async def test_a_ticket_is_over_after_its_seconds(shared_bus: MemoryBus, project: str) -> None:
    """30 if nothing else is set, and never longer than the token."""
    access = AccessSettings(ticket_seconds=0.3)
    with served(create_app(shared_bus, JwtAccessPolicy(SECRET), access=access)) as server:
        url = await given(server.port, project)
        await asyncio.sleep(0.4)  # what the test is about: it is over
        assert await status(server.port, url) == 401
    with served(create_app(shared_bus, JwtAccessPolicy(SECRET))) as server:
        answer = await asked(server.port, {"project_id": project}, token(projects="*", seconds=10))
        assert 5 <= answer.json()["expires_in"] <= 10


async def test_a_stream_by_ticket_ends_with_the_token(guarded: Served, project: str) -> None:
    """The ticket carries the end of the grant: with `access_expired`, as for the token itself."""
    url = await given(guarded.port, project, seconds=2.5)
    async with request(guarded.port, url) as browser:
        assert [message["type"] for message in await browser.rest()] == ["connected", "access_expired"]


async def test_a_principal_by_ticket_is_counted(shared_bus: MemoryBus, project: str) -> None:
    """Tickets lead around no limit of connections."""
    settings = EdgeSettings(principal_connections=1)
    with served(create_app(shared_bus, JwtAccessPolicy(SECRET), settings=settings)) as server:
        first, second, others = [await given(server.port, project, sub=name) for name in ("ann", "ann", "bob")]
        async with request(server.port, first) as browser:
            assert browser.status == 200
            assert await status(server.port, second) == 429
            assert await status(server.port, others) == 200


async def test_pages_of_listed_origins_may_ask(shared_bus: MemoryBus, project: str) -> None:
    """With the preflight that JSON needs; another origin's page may not read the answer."""
    cors = CorsSettings(origins=[PAGE])
    with served(create_app(shared_bus, JwtAccessPolicy(SECRET), cors=cors)) as server:
        asking = {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        for origin, preflight, allowed in ((PAGE, 204, PAGE), ("https://evil.example", 400, None)):
            sent = {"Origin": origin, **asking}
            async with request(server.port, TICKETS, sent, method="OPTIONS") as response:
                assert (response.status, response.headers.get("access-control-allow-origin")) == (preflight, allowed)
            answer = await asked(server.port, {"project_id": project}, Origin=origin)
            assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (201, allowed)


async def test_a_mounted_application_gives_whole_paths(shared_bus: MemoryBus, project: str) -> None:
    """The URL leads to where the application is mounted; ids stand in it as a path has them."""
    inner = create_app(shared_bus, JwtAccessPolicy(SECRET))
    with served(Starlette(routes=[Mount("/live", inner)])) as server:
        async with httpx.AsyncClient(base_url=f"http://localhost:{server.port}") as client:
            for name in (project, "项目 & co".replace(" ", ""), "100%", "a#b"):
                body = {"project_id": name, "stage_name": "é"}
                answer = await client.post(f"/live{TICKETS}", json=body, headers=bearer(token(projects="*")))
                assert answer.status_code == 201
                assert await status(server.port, answer.json()["url"]) == 200


async def test_only_post_gives_tickets(guarded: Served, edge: Served) -> None:
    """405; and where there is no policy nobody can be asked: 401."""
    async with request(guarded.port, TICKETS, bearer(token(projects="*"))) as response:
        assert (response.status, response.headers["allow"]) == (405, "POST")
    assert (await asked(edge.port, {"project_id": "1"})).status_code == 401


async def test_no_ticket_is_in_the_log(shared_bus: MemoryBus, project: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither of who gets it, nor of who uses it, the second time included."""
    caplog.set_level("DEBUG")
    with served(create_app(shared_bus, JwtAccessPolicy(SECRET))) as server:
        url = await given(server.port, project)
        ticket = url.partition("?ticket=")[2]
        assert [await status(server.port, url) for _ in range(2)] == [200, 401]
    written = [one.getMessage() for one in caplog.records]
    assert [line for line in written if "the ticket has been used" in line]
    assert not [line for line in written if ticket in line]
