"""What is counted of refusals, and how little of a flood of them the log is told."""

import asyncio
import logging
from collections.abc import Iterator
from uuid import uuid4

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.sse.tally import LINES, PERIOD, Tally
from stagecast.entrypoints.wiring import CODEC
from tests.sse.browser import request, stage_path
from tests.sse.serving import Served, served
from tests.waiting import eventually


@pytest.fixture
def server() -> Iterator[Served]:
    with served(create_app(MemoryBus(CODEC), settings=EdgeSettings(connections=1))) as running:
        yield running


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in list(caplog.records) if record.name == "stagecast.sse"]


async def test_a_flood_of_refusals(server: Served, caplog: pytest.LogCaptureFixture) -> None:
    """All are counted by status and reason; the log has a few lines of each, then one with the number of the others."""
    caplog.set_level(logging.DEBUG)
    tally: Tally = server.app.state.edge.refusals  # type: ignore[attr-defined]
    assert (LINES, PERIOD) == (20, 60.0)
    tally.lines, tally.period = 5, 3.0
    secret = uuid4().hex
    query, headers = f"ticket={secret}&run={secret[:4]}", {"Authorization": f"Bearer {secret}", "Cookie": f"a={secret}"}

    async def ask(path: str, status: int) -> None:
        async with request(server.port, path, headers) as response:
            assert response.status == status

    async with request(server.port, stage_path("p")) as viewer:
        await viewer.next()
        async with asyncio.TaskGroup() as group:
            for number in range(60):
                group.create_task(ask(stage_path(f"p{number}", query=query), 429))
                group.create_task(ask(stage_path("a%20b", query=query), 400))
            group.create_task(ask("/nowhere", 404))
        assert tally.counts == {(429, "connections"): 60, (400, "malformed"): 60, (404, "route"): 1}
        await eventually(lambda: len([line for line in told(caplog) if "more requests were refused" in line]) == 2, 20)
    lines = told(caplog)
    assert len([line for line in lines if "a viewer is refused (429)" in line]) == 5
    assert len([line for line in lines if "a viewer is refused (400)" in line]) == 5
    assert len([line for line in lines if "a viewer is refused (404)" in line]) == 1
    assert "55 more requests were refused (429, connections) in the last 3 s" in lines
    assert "55 more requests were refused (400, malformed) in the last 3 s" in lines
    assert not [record for record in list(caplog.records) if secret in record.getMessage()]


async def test_a_few_are_told_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    """No more than the limit, and no number is told; the next period begins anew."""
    caplog.set_level(logging.INFO)
    tally = Tally(lines=2, period=0.05)
    for period in range(2):
        for number in range(2):
            tally.note(403, "access", f"line {period} {number}")
        await eventually(lambda: not tally._periods, 10)
    assert told(caplog) == ["line 0 0", "line 0 1", "line 1 0", "line 1 1"]


def test_a_period_ends_though_its_event_loop_has_ended_before(caplog: pytest.LogCaptureFixture) -> None:
    """An application may be served again by another loop: what was suppressed then is told with the next refusal."""
    caplog.set_level(logging.INFO)
    tally = Tally(lines=1, period=0.01)

    async def refuse(first: int, count: int) -> None:
        for number in range(first, first + count):
            tally.note(403, "access", f"line {number}")

    asyncio.run(refuse(0, 3))
    tally._periods[403, "access"].until -= 1
    asyncio.run(refuse(3, 1))
    assert told(caplog) == ["line 0", "2 more requests were refused (403, access) in the last 0.01 s", "line 3"]
