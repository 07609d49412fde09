"""Each ASGI server is told to stop while streams are open: they end properly, and the clients go on elsewhere."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stagecast import RedisStreamPublisher
from tests.asgi_servers.launching import APP, COMMANDS, Launched, launched, server_of
from tests.reading import rebuilt
from tests.servers import RedisServer, free_port
from tests.sse.browser import request, stage_path
from tests.sse.eventstream import Message, types
from tests.sse.programs import SERVE

SECONDS = 8.0
"""That a program may take to end."""
PROGRAMS = {
    "uvicorn.run": """if True:
        import sys, uvicorn
        uvicorn.run(sys.argv[1], port=int(sys.argv[2]))
    """,
    "uvicorn.Server": """if True:
        import contextlib, sys, uvicorn
        with contextlib.suppress(KeyboardInterrupt):  # it raises the signal again when it has ended
            uvicorn.Server(uvicorn.Config(sys.argv[1], port=int(sys.argv[2]))).run()
    """,
}
"""How else people start uvicorn."""


@contextmanager
def started(name: str, redis: RedisServer) -> Iterator[Launched]:
    if name not in PROGRAMS:
        with server_of(name, redis.url) as server:
            yield server
        return
    port = free_port()
    command = [sys.executable, "-c", PROGRAMS[name], APP, str(port)]
    with launched(command, port, {"STAGECAST_BUS": redis.url}) as server:
        yield server


@pytest.fixture(scope="module")
def next_server(redis: RedisServer) -> Iterator[Launched]:
    """The server to which the clients of all others come back."""
    port = free_port()
    with launched([*SERVE[:2], "--port", str(port)], port, {"STAGECAST_BUS": redis.url}) as server:
        yield server


async def ended(server: Launched) -> int:
    return await asyncio.to_thread(server.exit_code, SECONDS)


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("name", [*COMMANDS, *PROGRAMS])
async def test_a_stream_ends_and_goes_on_at_another_server(
    name: str, signal_: signal.Signals, redis: RedisServer, next_server: Launched, project: str
) -> None:
    """R112: however it was started, the server ends soon; no token is lost and none comes twice."""
    messages: list[Message] = []
    with RedisStreamPublisher(project, "rewrite", bus=redis.url) as publisher:
        with started(name, redis) as server:
            async with request(server.port, stage_path(project)) as browser, request(server.port, stage_path(project)):
                await browser.next()
                for piece in ("one ", "two "):
                    publisher.publish_token(piece)
                    messages.append((await browser.next()).message)
                server.send(signal_)
                publisher.publish_token("three ")  # may still be sent, or not
                messages += await browser.rest()
                assert browser.ended, "not torn"
                assert browser.stream.retry is not None, "told when to come back"
                assert "stream_end" not in types(messages), "the stage goes on"
            await ended(server)
            assert "Traceback" not in server.output
        publisher.publish_token("four")
        assert await asyncio.to_thread(publisher.publish_done)
        headers = {"Last-Event-ID": browser.stream.last_event_id}
        async with request(next_server.port, stage_path(project), headers) as browser:
            assert (await browser.next()).message["type"] == "connected"
            messages += await browser.rest()
    assert types(messages) == ["token"] * (len(messages) - 2) + ["done", "stream_end"]
    assert rebuilt(messages) == "one two three four"
    assert [message["content"] for message in messages[:2]] == ["one ", "two "]


@pytest.mark.parametrize("name", ["uvicorn", "daphne"])
async def test_streams_below_middleware_end_too(name: str, redis: RedisServer, project: str) -> None:
    """R118: mounted below a BaseHTTPMiddleware, with no lifespan that anybody runs, SIGTERM ends the streams."""
    with server_of(name, redis.url, app="tests.asgi_servers.apps:passing") as server:
        async with request(server.port, stage_path(project)) as browser:
            await browser.next()
            server.send(signal.SIGTERM)
            assert await browser.rest() == []
            assert browser.stream.retry is not None
        await ended(server)


async def test_a_worker_that_gets_no_signal_ends_its_streams(redis: RedisServer, project: str) -> None:
    """R113: hypercorn's master tells its workers by an event; their streams end when they are cancelled."""
    with server_of("hypercorn", redis.url, "-w", "1", "--graceful-timeout", "1") as server:
        async with request(server.port, stage_path(project)) as browser:
            await browser.next()
            server.send(signal.SIGTERM)
            assert await browser.rest() == []
            assert browser.ended
            assert browser.stream.retry is not None
        await ended(server)


async def test_gunicorn_is_told_to_quit(redis: RedisServer, project: str) -> None:
    """SIGINT to gunicorn's master alone reaches its workers as SIGQUIT, which ends the streams at once."""
    with server_of("gunicorn", redis.url, "--graceful-timeout", "1") as server:
        async with request(server.port, stage_path(project)) as browser:
            await browser.next()
            server.process.send_signal(signal.SIGINT)
            assert await browser.rest() == []
            assert browser.stream.retry is not None
        await ended(server)
