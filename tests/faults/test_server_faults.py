"""Servers that end or die in mid-stream, one of two behind a round-robin: nothing is lost, nothing comes twice."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest

from stagecast.domain.positions import Position
from tests.faults.crowd import EventSource, digest
from tests.faults.servers import RoundRobin, assert_no_complaint, serving
from tests.faults.writing import writing
from tests.servers import RedisServer, free_port
from tests.sse.browser import project_path, request, stage_path
from tests.sse.programs import Program, running
from tests.waiting import eventually, wait_until

SECONDS = 60.0
"""After which a test has waited long enough for a crowd."""
SHUTDOWN_SECONDS = 5.0
"""That a server may take to end, with all its streams open."""
CROWD = 500
BY_TERM = {0, -signal.SIGTERM}
"""Exit codes of a server that was asked to end; uvicorn raises the signal again when it has done its work."""


async def ended(program: Program, streams: int | None = None) -> None:
    """Ask a server to end, with `streams` open; it does in time, and without a complaint."""
    asked = time.monotonic()
    program.process.send_signal(signal.SIGTERM)
    code = await asyncio.to_thread(program.exit_code, SHUTDOWN_SECONDS)
    print(f"a server ended {time.monotonic() - asked:.2f} s after SIGTERM ({streams} streams, exit code {code})")
    assert code in BY_TERM
    assert_no_complaint(program)
    if streams is not None:
        assert f"the server drains: {streams} viewers" in program.output


@asynccontextmanager
async def ready(port: int) -> AsyncIterator[None]:
    """Meanwhile the server is ready whenever it is asked."""
    answers: list[int] = []

    async def ask() -> None:
        while True:
            async with request(port, "/readyz") as response:
                answers.append(response.status)
            await asyncio.sleep(0.1)

    asking = asyncio.create_task(ask())
    try:
        yield
        await eventually(lambda: len(answers) > 2 or asking.done(), SECONDS)
    finally:
        asking.cancel()
        (outcome,) = await asyncio.gather(asking, return_exceptions=True)
    assert isinstance(outcome, asyncio.CancelledError), outcome
    assert set(answers) == {200}


def positions(viewer: EventSource) -> dict[Position, str]:
    """The content of each token by its position; they rise, and none comes twice."""
    tokens = [event for event in viewer.events if event.message["type"] == "token"]
    found = [(Position.parse(str(event.own_id)), event.message["content"]) for event in tokens]
    assert all(before < after for (before, _), (after, _) in pairwise(found))
    return dict(found)


@pytest.mark.parametrize("kind", ["serve", "uvicorn"])
async def test_viewers_go_on_at_the_other_server(any_redis: RedisServer, project: str, kind: str) -> None:
    """R34, R38: one server is killed, the other one ended; each viewer has each token once, under the same id."""
    ports = [free_port(), free_port()]
    paths = [stage_path(project), stage_path(project, query="delta=1"), project_path(project, "delta=1")]
    with ExitStack() as stack:
        one, other = (stack.enter_context(serving(kind, port, any_redis.url)) for port in ports)
        robin = stack.enter_context(RoundRobin(ports))
        viewers = [EventSource(robin.port, path) for path in paths * 4]
        async with asyncio.TaskGroup() as group, writing(any_redis.url, [project]) as written:
            for viewer in viewers:
                group.create_task(viewer.follow())
            await eventually(lambda: all(viewer.is_open for viewer in viewers), SECONDS)
            await written.goes_on()
            async with ready(ports[1]):
                one.process.send_signal(signal.SIGKILL)
                await eventually(lambda: sum(viewer.opened for viewer in viewers) >= 1.5 * len(viewers), SECONDS)
                await written.goes_on()
            stack.enter_context(serving(kind, ports[0], any_redis.url))
            async with ready(ports[0]):
                await ended(other, len(viewers) if kind == "serve" else None)
                await eventually(lambda: sum(viewer.opened for viewer in viewers) >= 2.5 * len(viewers), SECONDS)
                await written.goes_on()
        assert all(viewer.text == written.text(project) for viewer in viewers)
        assert all(viewer.opened in {2, 3} for viewer in viewers)
        deltas = [positions(viewer) for viewer in viewers if "delta" in viewer.path]
        assert all(found == deltas[0] for found in deltas)
        assert len(deltas[0]) == written.count


class Crowd:
    """The program that follows streams in hundreds."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def lines(self) -> list[dict[str, Any]]:
        assert self._program.process.poll() in {None, 0}, self._program.output
        return [json.loads(line) for line in self._program.lines if line.endswith("}\n")]

    async def is_open(self, opened: int) -> None:
        """Wait until everybody is there, and `opened` connections were made so far."""

        def reached() -> bool:
            found = self.lines()[-1:]
            return bool(found) and found[0].get("open") == CROWD and found[0]["opened"] >= opened

        await asyncio.to_thread(wait_until, reached, SECONDS)

    async def told(self) -> list[dict[str, Any]]:
        """What became of each viewer."""
        await asyncio.to_thread(self._program.exit_code, SECONDS)
        viewers: list[dict[str, Any]] = self.lines()[-1]["viewers"]
        return viewers


async def test_a_rolling_restart_under_500_streams(any_redis: RedisServer) -> None:
    """R134: both servers are replaced while ten projects go on; no token is lost or repeated, all come back apart."""
    ports = [free_port(), free_port()]
    projects = [f"p-{uuid4().hex[:12]}" for _ in range(10)]
    paths = [stage_path(project, query=query) for project in projects for query in ("", "delta=1")]
    with ExitStack() as stack:
        one, other = (stack.enter_context(serving("serve", port, any_redis.url)) for port in ports)
        robin = stack.enter_context(RoundRobin(ports))
        async with writing(any_redis.url, projects, pause=0.2) as written:
            await written.goes_on(1)
            command = [sys.executable, "-m", "tests.faults.crowd", str(robin.port), str(CROWD), *paths]
            crowd = Crowd(stack.enter_context(running(command)))
            await crowd.is_open(CROWD)
            await written.goes_on(2)
            async with ready(ports[1]):
                await ended(one, CROWD // 2)
                await crowd.is_open(CROWD + CROWD // 2)
            stack.enter_context(serving("serve", ports[0], any_redis.url))
            await written.goes_on(2)
            async with ready(ports[0]):
                await ended(other, CROWD)
                stack.enter_context(serving("serve", ports[1], any_redis.url))
                await crowd.is_open(2 * CROWD + CROWD // 2)
            await written.goes_on(2)
        viewers = await crowd.told()
    texts = {path: digest(written.text(project)) for project in projects for path in paths if project in path}
    assert [viewer["digest"] for viewer in viewers] == [texts[viewer["path"]] for viewer in viewers]
    assert len(viewers) == CROWD
    assert not any(viewer["resets"] for viewer in viewers)
    retries = sorted(retry for viewer in viewers for retry in viewer["retries"])
    assert 500 <= retries[0] <= retries[-1] <= 3000
    assert len(set(retries)) > len(retries) / 2, "each at a time of its own"
