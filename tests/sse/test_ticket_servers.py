"""Tickets among servers: once for all processes, with what is secret and shared, and what happens without."""

import asyncio

import pytest

from stagecast.adapters.jwt import JwtAccessPolicy
from stagecast.adapters.memory import MemoryBus
from stagecast.adapters.tickets import MemoryUsedTickets
from stagecast.domain.access import Access, AccessRequest
from stagecast.domain.bus import BusLimits, Capabilities
from stagecast.entrypoints.configuration import AccessSettings
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.wiring import CODEC
from tests.adapters.test_jwt_keys import RSA, pem
from tests.servers import RedisServer, available_redis_kinds, start_redis
from tests.sse.browser import request, stage_path
from tests.sse.programs import SERVE, running
from tests.sse.serving import served
from tests.sse.tickets import asked, given, status
from tests.sse.tokens import SECRET, token
from tests.waiting import eventually

TICKET_SECRET = "a secret for tickets alone, 32 bytes or more"


async def test_once_means_once_for_all_processes(any_redis: RedisServer, project: str) -> None:
    """A ticket of one server opens another one's stream, and after that none of both."""
    environment = {"STAGECAST_BUS": any_redis.url, "STAGECAST_JWT_SECRET": SECRET}
    with running(SERVE, environment) as one, running(SERVE, environment) as other:
        ports = await asyncio.to_thread(lambda: (one.port, other.port))
        url = await given(ports[0], project)
        found = await asyncio.gather(*(status(ports[number % 2], url) for number in range(10)))
        assert sorted(found) == [200, *[401] * 9]
        assert await status(ports[1], await given(ports[0], project)) == 200
    with any_redis.client() as client:
        assert all(client.pttl(key) > 0 for key in client.keys("stagecast:1:ticket:*"))


async def test_without_redis_no_ticket_is_taken(project: str) -> None:
    """Nobody knows whether it was used: 503, for an EventSource a time to come back; when Redis is back it counts."""
    with start_redis(available_redis_kinds()[0]) as redis:
        app = create_app(redis.url, JwtAccessPolicy(SECRET), settings=EdgeSettings(patience=1))
        with served(app) as server:
            url = await given(server.port, project)
            await asyncio.to_thread(redis.kill)
            assert await status(server.port, url) == 503
            async with request(server.port, url, {"Accept": "text/event-stream"}) as browser:
                assert (browser.status, await browser.rest()) == (200, [])
                assert browser.stream.retry is not None
            await asyncio.to_thread(redis.start)
            found: list[int] = []

            async def is_answered() -> bool:
                found.append(await status(server.port, url))
                return found[-1] != 503

            await eventually(is_answered, 20)
            assert found[-1] == 200


async def test_servers_that_share_no_memory_take_no_tickets_of_each_other(project: str) -> None:
    """On a bus of one process, the same secret or not: there nobody could tell whether it was used elsewhere."""
    apps = [create_app(MemoryBus(CODEC, BusLimits()), JwtAccessPolicy(SECRET)) for _ in range(2)]
    with served(apps[0]) as one, served(apps[1]) as other:
        url = await given(one.port, project)
        assert await status(other.port, url) == 401
        assert await status(one.port, url) == 200


class Anybody:
    """A policy without a secret."""

    async def authorize(self, request: AccessRequest) -> Access:
        return Access(principal="ann")


async def test_tickets_need_something_secret(shared_bus: MemoryBus, project: str) -> None:
    """501 and what to set where the policy has no secret; `access.ticket_secret` gives it one. None is taken either."""
    for policy in (Anybody(), JwtAccessPolicy(public_key=pem(RSA), algorithms=["RS256"])):
        credentials = token(secret=RSA, algorithm="RS256", projects="*")
        for access, expected in ((AccessSettings(), 501), (AccessSettings(ticket_secret=TICKET_SECRET), 201)):
            with served(create_app(shared_bus, policy, access=access)) as server:
                answer = await asked(server.port, {"project_id": project}, credentials)
                assert answer.status_code == expected
                if expected == 201:
                    assert await status(server.port, answer.json()["url"]) == 200
                else:
                    assert "STAGECAST_ACCESS_TICKET_SECRET" in answer.json()["detail"]
                    assert await status(server.port, stage_path(project) + "stream/?ticket=x.y") == 401


async def test_a_secret_may_be_replaced(any_redis: RedisServer, project: str) -> None:
    """A ticket of a server with the former secret opens a stream of one with the new one, and none without it."""
    old, new = "the former secret of the tests, 32 bytes", SECRET
    rotating, done = JwtAccessPolicy(new, former_secrets=[old]), JwtAccessPolicy(new)
    with served(create_app(any_redis.url, JwtAccessPolicy(old))) as before:
        body = {"project_id": project, "stage_name": "rewrite"}
        urls = [(await asked(before.port, body, token(secret=old, projects="*"))).json()["url"] for _ in range(2)]
    for policy, expected in ((rotating, 200), (done, 401)):
        with served(create_app(any_redis.url, policy)) as server:
            assert await status(server.port, urls.pop()) == expected


class Foreign(MemoryBus):
    """A third party's transport between processes."""

    capabilities = Capabilities(processes=True)


async def test_a_bus_of_somebody_else_needs_a_memory(project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """501 and what to give where nothing is shared; with it tickets are given."""
    monkeypatch.setenv("STAGECAST_BUS", "carrier-pigeon://x")
    bus = Foreign(CODEC, BusLimits())
    for used, expected in ((None, 501), (MemoryUsedTickets(), 201)):
        with served(create_app(bus, JwtAccessPolicy(SECRET), used_tickets=used)) as server:
            answer = await asked(server.port, {"project_id": project})
            assert answer.status_code == expected
            if used is None:
                assert "used_tickets" in answer.json()["detail"]
            else:
                assert [await status(server.port, answer.json()["url"]) for _ in range(2)] == [200, 401]
