"""Several server processes on a real Redis: they come and go, Redis comes and goes, and viewers lose nothing."""

import asyncio
import signal
from collections.abc import Callable
from typing import TypeVar

import pytest

from stagecast import RedisStreamPublisher
from stagecast.domain.positions import Position
from tests.servers import RedisKind, RedisServer, available_redis_kinds, start_redis
from tests.sse.browser import project_path, request, stage_path
from tests.sse.eventstream import Message, types
from tests.sse.programs import SERVE, UVICORN, running
from tests.sse.texts import from_contents, from_deltas

Answer = TypeVar("Answer")

PIECES = [f"{number}字😀 " for number in range(300)]
TEXT = "".join(PIECES)


async def in_thread(call: Callable[[], Answer]) -> Answer:
    return await asyncio.to_thread(call)


@pytest.mark.parametrize("query", ["", "delta=1"], ids=["whole", "delta"])
async def test_a_client_may_change_between_servers(any_redis: RedisServer, project: str, query: str) -> None:
    """R41, R38: while a publisher runs, each reconnect meets another server process; each token comes once."""
    url = any_redis.url
    with running([*SERVE, "--bus", url]) as one, running(UVICORN, {"STAGECAST_BUS": url}) as other:
        ports = [await in_thread(lambda program=program: program.port) for program in (one, other)]  # type: ignore[misc]
        with RedisStreamPublisher(project, "rewrite", bus=url) as publisher:
            publisher.publish_stage_update("processing")
            await in_thread(publisher.flush)

            async def publish() -> None:
                for piece in PIECES:
                    publisher.publish_token(piece)
                    await asyncio.sleep(0.002)
                assert await in_thread(publisher.publish_done)

            async with request(ports[0], stage_path(project)) as browser:
                await browser.until_type("stage_update")
                seen = browser.stream.last_event_id
            publishing = asyncio.create_task(publish())
            messages: list[Message] = []
            positions: list[Position] = []
            turn = 0
            while not messages or messages[-1]["type"] != "done":
                turn += 1
                path = stage_path(project, query=query)
                async with request(ports[turn % 2], path, {"Last-Event-ID": seen}) as browser:
                    assert (await browser.next()).message["type"] == "connected"
                    for _ in range(1 + turn % 5):
                        event = await browser.next()
                        messages.append(event.message)
                        assert event.own_id is not None
                        positions.append(Position.parse(event.own_id))
                        seen = event.last_event_id
                        if event.message["type"] == "done":
                            break
            await publishing
    assert set(types(messages)) == {"token", "done"}
    assert (from_deltas(messages) if query else from_contents(messages)) == TEXT
    assert positions == sorted(set(positions)), "ids rise over all servers"
    assert turn > 10


async def test_a_server_may_be_replaced_in_mid_stream(any_redis: RedisServer, project: str) -> None:
    """R34: a deploy ends no stream for good: the next process serves the rest after the last id."""
    command = [*SERVE, "--bus", any_redis.url]
    with RedisStreamPublisher(project, "rewrite", bus=any_redis.url) as publisher:
        messages: list[Message] = []
        seen = ""
        for number, piece in enumerate(("one ", "two ", "three ")):
            with running(command) as program:
                headers = {"Last-Event-ID": seen} if seen else {}
                async with request(await in_thread(lambda: program.port), project_path(project), headers) as browser:
                    await browser.next()
                    assert publisher.publish_token(f"{piece}a ")
                    await in_thread(publisher.flush)
                    if number:
                        messages += await browser.until_type("token")
                    messages += await browser.until_type("token")
                    program.process.send_signal(signal.SIGTERM)
                    assert await browser.rest() == []
                    assert browser.stream.retry is not None
                    seen = browser.stream.last_event_id
            publisher.publish_token(f"{piece}b ")
            await in_thread(publisher.flush)
        assert types(messages) == ["token"] * 5
        assert from_contents(messages) == "one a one b two a two b three a "


async def test_redis_may_lose_everything_in_mid_stream(redis_kind: RedisKind, project: str) -> None:
    """R10, R16: viewers stay connected over a restart without persistence, and end with the exact text."""
    with start_redis(redis_kind) as redis, running([*SERVE, "--bus", redis.url]) as program:
        port = await in_thread(lambda: program.port)
        with RedisStreamPublisher(project, "rewrite", bus=redis.url, timeout=20) as publisher:
            async with (
                request(port, stage_path(project)) as whole,
                request(port, project_path(project, "delta=1")) as delta,
            ):
                await whole.next()
                await delta.next()
                for piece in PIECES[:100]:
                    publisher.publish_token(piece)
                await in_thread(publisher.flush)
                await in_thread(redis.kill)
                for piece in PIECES[100:200]:
                    publisher.publish_token(piece)
                await in_thread(redis.start)
                for piece in PIECES[200:]:
                    publisher.publish_token(piece)
                assert await in_thread(publisher.publish_done)
                messages = await whole.rest()
                assert types(messages)[-2:] == ["done", "stream_end"]
                assert from_contents(messages) == TEXT
                await delta.until_type("done")
                assert from_deltas(delta.messages) == TEXT


async def test_redis_may_be_away_when_a_client_comes(project: str) -> None:
    """R135: an EventSource is asked to come back, and is served when Redis is there again."""
    with start_redis(available_redis_kinds()[0]) as redis, running([*SERVE, "--bus", redis.url]) as program:
        port = await in_thread(lambda: program.port)
        await in_thread(redis.kill)
        async with request(port, stage_path(project), {"Accept": "text/event-stream"}) as browser:
            assert browser.status == 200
            assert await browser.rest() == []
            assert browser.stream.retry is not None
        await in_thread(redis.start)
        async with request(port, stage_path(project)) as browser:
            assert (await browser.next()).message["type"] == "connected"
