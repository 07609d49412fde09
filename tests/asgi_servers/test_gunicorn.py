"""gunicorn's own limits of time and of requests, with the worker class that docs/asgi-servers.md names."""

import asyncio
import re

from stagecast import RedisStreamPublisher
from tests.asgi_servers.launching import Launched, server_of
from tests.reading import rebuilt
from tests.servers import RedisServer
from tests.sse.browser import request, stage_path
from tests.sse.eventstream import Message, types

PIECES = [f"{number} " for number in range(25)]
PAUSE = 0.1
"""Seconds between two tokens: the stream lasts longer than the second that `--timeout` gives a worker."""


async def publish(project: str, redis: RedisServer) -> None:
    with RedisStreamPublisher(project, "rewrite", bus=redis.url) as publisher:
        for piece in PIECES:
            publisher.publish_token(piece)
            await asyncio.sleep(PAUSE)
        assert await asyncio.to_thread(publisher.publish_done)


async def watched(server: Launched, project: str, connected: asyncio.Event) -> tuple[list[Message], int]:
    """The messages to the end, as a browser gets them that comes back whenever the stream breaks; and how often."""
    messages: list[Message] = []
    seen, connections = "", 0
    while not messages or messages[-1]["type"] != "stream_end":
        connections += 1
        headers = {"Last-Event-ID": seen} if seen else {}
        try:
            async with request(server.port, stage_path(project), headers) as browser:
                try:
                    await browser.next()
                    connected.set()
                    await browser.rest()
                finally:
                    messages += browser.messages[1:]
                    seen = browser.stream.last_event_id or seen
        except (asyncio.IncompleteReadError, OSError, ValueError, IndexError):  # torn, in any state
            await asyncio.sleep(PAUSE)
    return messages, connections


def workers(server: Launched) -> set[str]:
    return set(re.findall(r"Booting worker with pid: (\d+)", server.output))


async def test_a_stream_may_last_longer_than_the_timeout(redis: RedisServer, project: str) -> None:
    """R137: `--timeout` counts from a worker's last sign of life, which this class gives while streams are open."""
    with server_of("gunicorn", redis.url, "--timeout", "1") as server:
        publishing = asyncio.create_task(publish(project, redis))
        messages, connections = await watched(server, project, asyncio.Event())
        await publishing
        assert connections == 1
        assert len(workers(server)) == 1
        assert "WORKER TIMEOUT" not in server.output
    assert set(types(messages[:-2])) == {"token"}
    assert rebuilt(messages) == "".join(PIECES)


async def test_a_worker_may_be_replaced_while_a_stream_is_open(redis: RedisServer, project: str) -> None:
    """R137: with `--max-requests 1` another request ends the worker; the client gets the rest from the next one."""
    with server_of("gunicorn", redis.url, "--timeout", "1", "--max-requests", "1") as server:
        publishing = asyncio.create_task(publish(project, redis))
        connected = asyncio.Event()
        watching = asyncio.create_task(watched(server, project, connected))
        await asyncio.wait_for(connected.wait(), 15)
        async with request(server.port, stage_path("a%20b")) as other:
            assert (await other.body())["status"] == 400
        messages, connections = await watching
        await publishing
        assert connections > 1
        assert len(workers(server)) > 1
    assert set(types(messages[:-2])) == {"token"}
    assert rebuilt(messages) == "".join(PIECES)
