"""Temporary refusals: never a status that ends an EventSource for good."""

from collections.abc import Iterator

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import BusUnavailable
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.wiring import CODEC
from tests.sse.browser import request, stage_path
from tests.sse.flaky import FlakyBus
from tests.sse.serving import Served, served

EVENT_SOURCE = {"Accept": "text/event-stream"}


async def assert_refused(server: Served, path: str, status: int) -> None:
    """For an EventSource a 200 with a retry, for everybody else the status, a time and a reason."""
    retries = set()
    for _ in range(3):
        async with request(server.port, path, EVENT_SOURCE) as browser:
            assert browser.status == 200
            assert browser.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert browser.headers["cache-control"] == "no-cache, no-transform"
            assert await browser.rest() == []
            assert browser.stream.retry is not None
            retries.add(browser.stream.retry)
    assert len(retries) > 1, "at random"
    async with request(server.port, path, {"Accept": "*/*"}) as response:
        assert response.status == status
        assert int(response.headers["retry-after"]) >= 1
        assert response.headers["content-type"] == "application/problem+json"
        assert (await response.body())["detail"]


@pytest.fixture
def flaky() -> FlakyBus:
    return FlakyBus(MemoryBus(CODEC, BusLimits()))


@pytest.fixture
def server(flaky: FlakyBus) -> Iterator[Served]:
    with served(create_app(flaky, settings=EdgeSettings(patience=0.1, connections=1))) as running:
        yield running


async def test_an_unreachable_bus(server: Served, flaky: FlakyBus, project: str) -> None:
    """R46, R135: while the bus is away clients are asked to come back; when it is back, they are served."""
    flaky.fail(BusUnavailable("away"), times=1_000_000)
    await assert_refused(server, stage_path(project), 503)
    flaky.fail(BusUnavailable("away"), times=0)
    async with request(server.port, stage_path(f"{project}-2"), EVENT_SOURCE) as browser:
        assert (await browser.next()).message["type"] == "connected"


async def test_too_many_connections(server: Served, project: str) -> None:
    """429 at a limit; nobody who is there is disturbed."""
    async with request(server.port, stage_path(project)) as browser:
        await browser.next()
        await assert_refused(server, stage_path(project), 429)
        assert not browser.ended


async def test_a_draining_server(server: Served, project: str) -> None:
    """503 between the signal and the end of the process."""
    async with request(server.port, stage_path(project)) as browser:
        await browser.next()
        server.app.state.edge.drain()  # type: ignore[attr-defined]
        assert await browser.rest() == []
    await assert_refused(server, stage_path(project), 503)


async def test_an_error_nobody_thought_of(
    server: Served, flaky: FlakyBus, project: str, caplog: pytest.LogCaptureFixture
) -> None:
    """R45: a bug in a bus is logged with its trace, and no client is lost by it."""
    flaky.fail(RuntimeError("a bug"), times=1_000_000)
    await assert_refused(server, stage_path(project), 503)
    assert any(record.exc_info for record in caplog.records)


async def test_a_server_without_a_bus(project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no bus is configured and no lifespan was there to say so, the log does."""
    for name in ("STAGECAST_BUS", "REDIS_URL", "REDIS_PUBSUB_URL", "CELERY_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)
    with served(create_app(), lifespan="off") as running:
        await assert_refused(running, stage_path(project), 503)
