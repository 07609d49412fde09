"""What the log of a server says: who is refused and why, and its end; never a credential, and no text above DEBUG."""

import asyncio
import logging
import signal
import time
from uuid import uuid4

import jwt
import pytest

from stagecast import RedisStreamPublisher
from stagecast.adapters.jwt import JwtAccessPolicy
from stagecast.entrypoints.sse import EdgeSettings, create_app
from tests.servers import available_redis_kinds, start_redis
from tests.sse.browser import request, stage_path
from tests.sse.programs import SERVE, running
from tests.sse.serving import Served, served
from tests.waiting import eventually

STREAM = {"Accept": "text/event-stream"}
SECRET = f"secret-{uuid4().hex}"
OTHER_SECRET = f"another-{uuid4().hex}"


def token(projects: object, *, secret: str = SECRET, seconds: float = 60) -> str:
    return jwt.encode({"projects": projects, "exp": time.time() + seconds, "sub": "ann"}, secret, "HS256")


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    """The lines so far that contain a text, each as `LEVEL logger message`."""
    told = [f"{one.levelname} {one.name} {one.getMessage()}" for one in list(caplog.records)]
    return [line for line in told if text in line]


async def refused(server: Served, path: str, headers: dict[str, str], status: int) -> None:
    async with request(server.port, path, headers) as browser:
        assert browser.status == status
        await browser.rest() if status == 200 else await browser.body()


async def test_the_life_of_a_server(project: str, caplog: pytest.LogCaptureFixture) -> None:
    """Refusals, an outage and the end are a line each; secret, password and tokens are in no record at all."""
    caplog.set_level(logging.DEBUG)
    password, text = f"pw-{uuid4().hex}", f"text-{uuid4().hex}"
    good = token([project])
    bad = {
        "garbage": f"garbage-{uuid4().hex}",
        "forged": token("*", secret=OTHER_SECRET),
        "expired": token("*", seconds=-60),
        "of another project": token(["another"]),
    }
    path, user = stage_path(project) + "stream/", ["--user", "app", "on", f">{password}", "~*", "&*", "+@all"]
    with start_redis(available_redis_kinds()[0], extra_args=user) as redis:
        url = f"redis://app:{password}@127.0.0.1:{redis.port}/0"
        settings = EdgeSettings(project_connections=1, patience=1)
        with (
            served(create_app(url, JwtAccessPolicy(SECRET), settings=settings)) as server,
            RedisStreamPublisher(project, "rewrite", bus=url, timeout=20) as publisher,
        ):
            await refused(server, path, {}, 401)
            for kind in ("garbage", "forged", "expired"):
                await refused(server, path, {"Authorization": f"Bearer {bad[kind]}"}, 401)
            await refused(server, path, {"Cookie": f"stagecast_token={bad['of another project']}"}, 403)
            async with request(server.port, path, {"Cookie": f"stagecast_token={good}"}) as browser:
                await browser.next()
                await refused(server, path, {"Authorization": f"Bearer {good}"}, 429)
                publisher.publish_token(text)
                await browser.until_type("token")
                await asyncio.to_thread(redis.kill)
                await eventually(lambda: lines(caplog, "the feed is down"), 15)
                await refused(
                    server,
                    stage_path("elsewhere") + "stream/",
                    {"Authorization": f"Bearer {token('*')}", **STREAM},
                    200,
                )
                await asyncio.to_thread(redis.start)
                await eventually(lambda: lines(caplog, "the feed is back"), 15)
                publisher.publish_token(text)
                await browser.until(lambda message: message.get("full_text") == text * 2)
                server.app.state.edge.drain()  # type: ignore[attr-defined]
                await browser.rest()
            await refused(server, path, {"Authorization": f"Bearer {good}"}, 503)
    refusal = f"INFO stagecast.sse {project}/rewrite: a viewer is refused"
    assert lines(caplog, f"{project}/rewrite: a viewer is refused") == [
        f"{refusal} (401): a bearer token is needed",
        f"{refusal} (401): the token is not valid (DecodeError)",
        f"{refusal} (401): the token is not valid (InvalidSignatureError)",
        f"{refusal} (401): the token has expired (ExpiredSignatureError)",
        f"{refusal} (403): the token does not grant project {project}",
        f"{refusal} (429): project {project} has 1 streams",
        f"{refusal} (503): the server is about to stop",
    ]
    assert len(lines(caplog, "elsewhere/rewrite: a viewer is refused (503)")) == 1
    assert lines(caplog, "the server drains") == ["INFO stagecast.sse the server drains: 1 viewers are sent away"]
    assert len(lines(caplog, "WARNING stagecast.redis the feed is down and reconnects")) == 1
    assert lines(caplog, "the feed is back") == ["INFO stagecast.redis the feed is back"]
    written = [(record, logging.Formatter().format(record)) for record in list(caplog.records)]
    for secret in (SECRET, OTHER_SECRET, password, good, *bad.values()):
        assert not [line for _, line in written if secret in line]
    assert not [line for record, line in written if record.levelno > logging.DEBUG and text in line]


async def test_the_server_writes_its_log(project: str) -> None:
    """`stagecast serve` shows these lines on standard error; no line, the server's own included, has a credential."""
    environment = {"STAGECAST_BUS": "memory://", "STAGECAST_JWT_SECRET": SECRET}
    forged, good = token("*", secret=OTHER_SECRET), token("*")
    with running(SERVE, environment) as program:
        port = await asyncio.to_thread(lambda: program.port)
        async with request(port, stage_path(project) + "stream/", {"Authorization": f"Bearer {forged}"}) as browser:
            assert browser.status == 401
        async with request(port, stage_path(project) + "stream/", {"Cookie": f"stagecast_token={good}"}) as browser:
            await browser.next()
            program.process.send_signal(signal.SIGTERM)
            await browser.rest()
        await asyncio.to_thread(program.exit_code, 10)
        output = program.output
    assert f" INFO stagecast.sse {project}/rewrite: a viewer is refused (401): the token is not valid" in output
    assert " INFO stagecast.sse the server drains: 1 viewers are sent away" in output
    assert not [secret for secret in (SECRET, forged, good) if secret in output]


@pytest.mark.parametrize("name", ["a%0Ab", "a%1B%5B31mb", "a%E2%80%A8b"])
async def test_a_refused_path_writes_one_line(edge: Served, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Line ends and control characters of a path are escaped: nobody forges a line of the log."""
    caplog.set_level(logging.INFO)
    await refused(edge, stage_path(name), STREAM, 400)
    (line,) = lines(caplog, "a viewer is refused (400)")
    assert line.isprintable()
