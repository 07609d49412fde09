"""Connections of viewers that end in the wrong moment or in the wrong way, and readers of the bus that fail."""

import asyncio
import gc
import logging
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest

from stagecast import RedisStreamPublisher
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.testing.actors import Producer
from stagecast.entrypoints.wiring import CODEC
from tests.faults.proxy import Proxy
from tests.faults.scenario import Visitor
from tests.reading import rebuilt, told
from tests.servers import RedisServer
from tests.sse.browser import request, stage_path
from tests.sse.flaky import FlakyBus
from tests.sse.serving import Served, served, viewers_of
from tests.waiting import eventually


@pytest.fixture
def project() -> str:
    return uuid4().hex


@pytest.fixture
def server(any_redis: RedisServer) -> Iterator[Served]:
    with served(create_app(any_redis.url, settings=EdgeSettings(heartbeat=0.2))) as running:
        yield running


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "torn"])
async def test_an_end_without_a_terminal_is_an_interruption(
    server: Served, any_redis: RedisServer, project: str, reset: bool
) -> None:
    """R50: a proxy closes the connection after 10 of 20 tokens, politely or not: the client has seen no end, comes back
    with its last id and gets the rest; the server takes nothing for a success but `done`."""
    words = [f"{number} " for number in range(20)]
    with Proxy(server.port) as proxy, RedisStreamPublisher(project, "rewrite", bus=any_redis.url) as publisher:
        visitor = Visitor(proxy.port, stage_path(project, query="delta=1"))
        watching = asyncio.create_task(visitor.watch("done", "error", "stream_end"))
        await eventually(lambda: visitor.messages)
        for word in words[:10]:
            publisher.publish_token(word)
        await eventually(lambda: "9 " in "".join(_contents(visitor.messages)))
        assert proxy.cut(reset=reset) == 1
        await eventually(lambda: visitor.visits >= 2)
        assert not {"done", "error", "stream_end"} & set(told(visitor.messages)), "nobody was told of an end"
        for word in words[10:]:
            publisher.publish_token(word)
        await eventually(lambda: "19 " in "".join(_contents(visitor.messages)))
        assert not publisher.cancelled
        assert await asyncio.to_thread(publisher.publish_done)
        messages = await asyncio.wait_for(watching, 20)
    assert _contents(messages) == words
    assert visitor.visits == 2


def _contents(messages: list[dict[str, Any]]) -> list[str]:
    return [message["content"] for message in messages if message["type"] == "token"]


async def test_a_reader_of_the_bus_that_fails_on_an_open_stream(project: str, caplog: pytest.LogCaptureFixture) -> None:
    """R45: the stream stays open and goes on without a loss when the bus can be read; its trace is in the log, once.

    While it cannot, heartbeats go on and no end is told.
    """
    bus = MemoryBus(CODEC, BusLimits())
    flaky = FlakyBus(bus)
    producer = Producer(Topic(project, "rewrite"))
    with served(create_app(flaky, settings=EdgeSettings(heartbeat=0.1))) as server:
        async with request(server.port, stage_path(project)) as browser:
            await producer.write(bus, "a", "b")
            await browser.until(lambda message: message.get("full_text") == "ab")
            flaky.fail(RuntimeError("a bug of the bus"), times=3)
            await producer.write(bus, "c")
            await eventually(lambda: flaky.failures_left < 3)
            heard = len(browser.stream.comments)
            await browser.until_stream(lambda stream: len(stream.comments) > heard)
            await producer.write(bus, "d")
            await producer.send(bus, producer.done())
            await browser.until_type("done", "error", "stream_end")
            assert told(browser.messages)[:3] == ["connected", "token", "done"]
            assert rebuilt(browser.messages) == "abcd"
    causes = [record for record in caplog.records if "a bug of the bus" in record.getMessage()]
    assert len(causes) == 1
    assert causes[0].exc_info
    assert not [record for record in caplog.records if "ASGI" in record.getMessage()]


async def test_who_leaves_cancels_nothing(server: Served, any_redis: RedisServer, project: str) -> None:
    """R53: a viewer leaves, politely or not: the run goes on. A cancel ends it, once, however often it is asked for."""
    with RedisStreamPublisher(project, "rewrite", bus=any_redis.url) as publisher:
        publisher.publish_token("a")
        async with request(server.port, stage_path(project)) as witness:
            await witness.until_type("token")
            for _ in range(3):
                async with request(server.port, stage_path(project)) as leaver:
                    await leaver.until_type("token")
            await eventually(lambda: len(viewers_of(server, project)) == 1)
            publisher.publish_token("b")
            assert await asyncio.to_thread(publisher.flush), "its receipt would tell of a cancel"
            assert not publisher.cancelled
            await witness.until_type("token")
            url = f"http://127.0.0.1:{server.port}/api/v1/projects/{project}/stages/rewrite/cancel"
            async with httpx.AsyncClient() as client:
                answers = [await client.post(url, timeout=10) for _ in range(2)]
                await eventually(lambda: publisher.cancelled)
                publisher.publish_error("cancelled", reason="cancelled")
                answers.append(await client.post(url, timeout=10))
            assert [answer.status_code for answer in answers] == [202, 202, 200]
            messages = await witness.rest()
            assert told(messages) == ["error", "stream_end"]


async def test_a_hundred_come_and_go(any_redis: RedisServer, project: str, caplog: pytest.LogCaptureFixture) -> None:
    """R90: clients leave in every way while a stage streams: no task and no exception is left behind, no log line."""
    with complaints() as found, caplog.at_level(logging.INFO), served(create_app(any_redis.url)) as server:
        server.loop.set_exception_handler(lambda _, context: found.append(context))
        with RedisStreamPublisher(project, "rewrite", bus=any_redis.url) as publisher:
            publisher.publish_token("begun ")
            await asyncio.to_thread(publisher.flush)
            async with asyncio.TaskGroup() as group:
                for number in range(100):
                    group.create_task(_come_and_go(server.port, project, number))
                    publisher.publish_token(f"{number} ")
                    await asyncio.sleep(0.002)
            await eventually(lambda: not viewers_of(server, project), 20)
            assert await asyncio.to_thread(publisher.publish_done)
        await eventually(lambda: _requests(server) == [], 20)
        caplog.clear()
        gc.collect()
    assert found == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@contextmanager
def complaints() -> Iterator[list[Any]]:
    """What asyncio reports while the block runs: it logs, where no handler is set."""
    found: list[Any] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    handler = Collecting()
    logger = logging.getLogger("asyncio")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


async def _come_and_go(port: int, project: str, number: int) -> None:
    """Leave before, at or after the first message, by FIN or RST."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {stage_path(project)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    if number % 3:
        await reader.readline()
    if number % 3 == 2:
        await reader.readuntil(b"data:")
    if number % 2:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
    else:
        writer.close()


def _requests(server: Served) -> list[str]:
    """The server's tasks that serve a request."""
    return [repr(task) for task in asyncio.all_tasks(server.loop) if "run_asgi" in repr(task)]
