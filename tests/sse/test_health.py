"""What load balancers are told, and that an outage which makes a server unready ends none of its streams."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from stagecast import RedisStreamPublisher
from stagecast.adapters.memory import MemoryBus
from stagecast.entrypoints.sse import create_app
from tests.reading import rebuilt
from tests.servers import RedisKind, RedisServer, start_redis
from tests.sse.browser import request, stage_path
from tests.sse.serving import Served, served
from tests.waiting import eventually


async def status(server: Served, path: str) -> int:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{server.port}{path}", timeout=10)
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code


@pytest.fixture
def redis(redis_kind: RedisKind) -> Iterator[RedisServer]:
    with start_redis(redis_kind) as server:
        yield server


async def test_a_server_on_a_bus_that_answers_is_ready(edge: Served) -> None:
    """Both are 200."""
    assert await status(edge, "/healthz") == 200
    assert await status(edge, "/readyz") == 200


async def test_a_server_that_drains_is_alive_and_not_ready(shared_bus: MemoryBus) -> None:
    """A load balancer sends nobody any more to a server that is about to stop."""
    app = create_app(shared_bus)
    with served(app) as server:
        assert await status(server, "/readyz") == 200
        app.state.edge.drain()
        await eventually(lambda: all(hub.draining for hub in app.state.edge._hubs.values()))
        assert await status(server, "/readyz") == 503
        assert await status(server, "/healthz") == 200


async def test_a_server_without_a_bus_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bus is configured: 503, and the process is alive."""
    for name in ("STAGECAST_BUS", "REDIS_URL", "REDIS_PUBSUB_URL", "CELERY_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)
    with served(create_app(), lifespan="off") as server:
        assert await status(server, "/readyz") == 503
        assert await status(server, "/healthz") == 200


async def test_without_redis_a_server_is_not_ready_and_drops_nobody(redis: RedisServer, project: str) -> None:
    """R21: Redis is killed in mid-stream: not ready, alive; when it is back, ready, and the open stream goes on."""
    app = create_app(redis.url)
    with served(app) as server, RedisStreamPublisher(project, "rewrite", bus=redis.url) as publisher:
        publisher.publish_token("one ")
        await asyncio.to_thread(publisher.flush)
        async with request(server.port, stage_path(project)) as browser:
            messages = await browser.until_type("token")
            assert await status(server, "/readyz") == 200
            redis.kill()
            assert await status(server, "/readyz") == 503
            assert await status(server, "/healthz") == 200
            publisher.publish_token("two ")
            redis.restart()
            await eventually(lambda: _is_ready(server))
            assert await asyncio.to_thread(publisher.publish_done)
            messages += await browser.until_type("done")
    assert rebuilt(messages) == "one two "


async def test_a_killed_feed_is_made_again(redis: RedisServer, project: str) -> None:
    """R21: the feed's connection alone is killed: the server is ready again without help, and the stream goes on."""
    with served(create_app(redis.url)) as server, RedisStreamPublisher(project, "rewrite", bus=redis.url) as publisher:
        async with request(server.port, stage_path(project)) as browser:
            await browser.until_type("connected")
            with redis.client() as client:
                assert client.client_kill_filter(_type="pubsub") >= 1
            publisher.publish_token("after")
            assert await asyncio.to_thread(publisher.publish_done)
            messages = await browser.until_type("done")
        await eventually(lambda: _is_ready(server))
    assert rebuilt(messages) == "after"


def _is_ready(server: Served) -> bool:
    return httpx.get(f"http://127.0.0.1:{server.port}/readyz", timeout=10).status_code == 200
