"""Cancelling a run over HTTP: who may, what it stops, and what it leaves alone."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from stagecast import RedisStreamPublisher
from stagecast.adapters.jwt import JwtAccessPolicy
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.errors import RunCancelled
from stagecast.entrypoints.sse import CorsSettings, create_app
from tests.reading import told
from tests.servers import RedisServer
from tests.sse.browser import request, stage_path
from tests.sse.serving import Served, served
from tests.sse.tokens import SECRET, token
from tests.waiting import wait_until

PAGE = "https://app.example"


def cancel_path(project: str, stage: str = "rewrite") -> str:
    return f"/api/v1/projects/{project}/stages/{stage}/cancel"


async def post(server: Served, project: str, *, method: str = "POST", run: str = "", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        query = {"run": run} if run else {}
        return await client.request(method, cancel_path(project), params=query, headers=sent, timeout=10)


async def stopped(publisher: RedisStreamPublisher) -> None:
    await asyncio.to_thread(wait_until, lambda: publisher.cancelled)


@pytest.fixture
def bus_and_edge(any_redis: RedisServer) -> Iterator[tuple[str, Served]]:
    with served(create_app(any_redis.url)) as server:
        yield any_redis.url, server


async def test_the_publisher_is_told_and_every_viewer_sees_the_end(
    bus_and_edge: tuple[str, Served], project: str
) -> None:
    """R53: asked twice, and again after the end, there is one terminal event; no viewer who leaves cancels."""
    url, server = bus_and_edge
    with RedisStreamPublisher(project, "rewrite", bus=url, strict=True) as publisher:
        publisher.publish_token("a")
        await asyncio.to_thread(publisher.flush)
        async with request(server.port, stage_path(project)) as leaver:
            await leaver.until_type("token")
        async with request(server.port, stage_path(project)) as browser:
            await browser.until_type("token")
            assert not publisher.cancelled
            first, second = await post(server, project), await post(server, project)
            assert (first.status_code, first.json()["cancelled"]) == (202, True)
            assert first.json() == second.json() | {"cancelled": True}
            assert first.json()["run"] == publisher.run_id
            await stopped(publisher)
            with pytest.raises(RunCancelled):
                publisher.publish_token("b")
            publisher.close()
            messages = await browser.rest()
    assert told(messages) == ["error"] or told(messages) == ["error", "stream_end"]
    assert messages[0]["reason"] == "cancelled"
    after = await post(server, project)
    assert (after.status_code, after.json()["cancelled"]) == (200, False)
    async with request(server.port, stage_path(project, query="replay=latest")) as late:
        assert [message["type"] for message in await late.rest()].count("error") == 1


async def test_a_regenerated_run_is_left_alone(bus_and_edge: tuple[str, Served], project: str) -> None:
    """A cancel that names the run before comes too late for it, and stops nothing else."""
    url, server = bus_and_edge
    with RedisStreamPublisher(project, "rewrite", bus=url) as old:
        old.publish_token("old")
        assert await asyncio.to_thread(old.publish_done)
        before = old.run_id
    with RedisStreamPublisher(project, "rewrite", bus=url) as new:
        new.publish_token("new")
        await asyncio.to_thread(new.flush)
        assert new.run_id != before
        answer = await post(server, project, run=str(before))
        assert (answer.status_code, answer.json()["cancelled"]) == (200, False)
        assert (await post(server, project, run=str(new.run_id))).status_code == 202
        await stopped(new)


async def test_where_nothing_runs_nothing_is_cancelled(edge: Served, project: str) -> None:
    """A stage that nobody has published to: 200, and no run."""
    answer = await post(edge, project)
    assert answer.json() == {"project_id": project, "stage": "rewrite", "run": None, "cancelled": False}


async def test_only_post_cancels(edge: Served, project: str) -> None:
    """A link or a picture on a page must not."""
    answer = await post(edge, project, method="GET")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("open_routes", [False, True])
async def test_a_policy_is_always_asked(shared_bus: MemoryBus, project: str, open_routes: bool) -> None:
    """No token 401, one for another project, stage or for reading 403, also where the seed's routes are open."""
    refused: tuple[dict[str, Any], ...] = (
        {"projects": ["other"], "actions": ["cancel"]},
        {"projects": [project]},
        {"projects": [project], "actions": ["read"]},
        {"projects": [project], "actions": ["cancel"], "stages": ["video"]},
    )
    app = create_app(shared_bus, JwtAccessPolicy(SECRET), open_routes=open_routes)
    with served(app) as server, RedisStreamPublisher(project, "rewrite", bus=shared_bus) as publisher:
        publisher.publish_token("a")
        await asyncio.to_thread(publisher.flush)
        assert (await post(server, project)).status_code == 401
        for claims in refused:
            answer = await post(server, project, authorization=f"Bearer {token(**claims)}")
            assert answer.status_code == 403, claims
        assert not publisher.cancelled
        mine = f"Bearer {token(projects=[project], actions=['cancel'], stages=['rewrite'])}"
        assert (await post(server, project, authorization=mine)).status_code == 202
        await stopped(publisher)


@pytest.mark.parametrize(
    ("cors", "origin", "status"),
    [
        (CorsSettings(), "https://evil.example", 403),
        (CorsSettings(), "null", 403),
        (CorsSettings(), "http://[", 403),
        (CorsSettings(origins=["*"]), "https://evil.example", 403),
        (CorsSettings(origins=[PAGE, "null"]), "null", 403),
        (CorsSettings(origins=[PAGE]), "https://evil.example", 403),
        (CorsSettings(origins=[PAGE], credentials=True), PAGE, 200),
        (CorsSettings(), "same", 200),
    ],
)
async def test_pages_of_other_origins_may_not(
    shared_bus: MemoryBus, project: str, cors: CorsSettings, origin: str, status: int
) -> None:
    """A foreign page could use its visitor's cookie, or reach the visitor's own machine; only a named one may."""
    with served(create_app(shared_bus, cors=cors)) as server:
        sent = f"http://127.0.0.1:{server.port}" if origin == "same" else origin
        answer = await post(server, project, origin=sent)
        assert answer.status_code == status
        if origin == PAGE:
            assert answer.headers["access-control-allow-origin"] == PAGE
            asked = await post(server, project, method="OPTIONS", origin=PAGE, access_control_request_method="POST")
            assert (asked.status_code, asked.headers["access-control-allow-methods"]) == (204, "POST")


async def test_without_the_bus_the_caller_is_asked_to_come_back(project: str) -> None:
    """503 with Retry-After: nothing was cancelled."""
    with served(create_app("redis://127.0.0.1:1/0")) as server:
        answer = await post(server, project)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
