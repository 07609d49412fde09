"""Clients that come back: exactly the rest, 204 after the end, a snapshot for a malformed position."""

import asyncio

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.topics import Topic
from stagecast.entrypoints.testing.actors import Producer
from tests.sse.browser import request, stage_path
from tests.sse.eventstream import types
from tests.sse.serving import Served


async def test_a_client_that_reconnects_gets_exactly_the_rest(
    edge: Served, shared_bus: MemoryBus, project: str, producer: Producer
) -> None:
    """R34, R36: the position in the header, or else in the query, is resumed after; nothing new, nothing repeated."""
    async with request(edge.port, stage_path(project)) as browser:
        await browser.next()
        await producer.write(shared_bus, *[f"{n} " for n in range(20)])
        events = [await browser.next() for _ in range(20)]
    seen = events[9].own_id
    assert seen is not None
    rest = "".join(f"{n} " for n in range(10, 20))
    for headers, query in (
        ({"Last-Event-ID": seen}, ""),
        ({}, f"last_event_id={seen}"),
        ({"Last-Event-ID": seen}, f"last_event_id={events[0].own_id}"),
        ({"Last-Event-ID": seen}, "replay=latest"),
    ):
        async with request(edge.port, stage_path(project, query=query), headers) as browser:
            connected, token = await browser.take(2)
            assert (connected["type"], token["content"]) == ("connected", rest), "one token for the run of tokens"
            assert token["full_text"] == "".join(f"{n} " for n in range(20))
            assert browser.stream.last_event_id == events[-1].own_id
    for _ in range(3):
        async with request(edge.port, stage_path(project), {"Last-Event-ID": str(events[-1].own_id)}) as browser:
            await browser.next()
            await browser.until_stream(lambda stream: len(stream.blocks) == 2)
            assert browser.stream.blocks[1] == [f"id: {events[-1].own_id}"], "R34: no event is repeated"
    async with request(edge.port, stage_path(project, query="delta=1"), {"Last-Event-ID": seen}) as browser:
        tokens = (await browser.take(11))[1:]
        assert [token["content"] for token in tokens] == [f"{n} " for n in range(10, 20)], "delta tokens stay apart"
        assert [event.own_id for event in browser.stream.events[1:]] == [event.own_id for event in events[10:]]


async def test_a_client_that_drops_after_every_message_misses_and_repeats_nothing(
    edge: Served, shared_bus: MemoryBus, project: str, producer: Producer
) -> None:
    """R41: reconnecting in mid-stream, with a publisher running, the union has each token once."""
    count = 60

    async def publish() -> None:
        for number in range(count):
            await producer.write(shared_bus, f"{number} ")
            await asyncio.sleep(0)
        await producer.send(shared_bus, producer.done())

    for query in ("", "delta=1"):
        await producer.send(shared_bus, producer.update())
        async with request(edge.port, stage_path(project)) as browser:  # fixes the position before the first token
            await browser.until_type("stage_update")
            last = browser.stream.last_event_id
        publishing = asyncio.create_task(publish())
        contents: list[str] = []
        over = False
        while not over:
            async with request(edge.port, stage_path(project, query=query), {"Last-Event-ID": last}) as browser:
                await browser.next()
                event = await browser.next()
                while event.message["type"] not in {"token", "done"}:
                    event = await browser.next()
                if event.message["type"] == "token":
                    contents.append(event.message["content"])
                last = event.last_event_id
                over = event.message["type"] == "done"
        await publishing
        assert "".join(contents) == "".join(f"{n} " for n in range(count))
        producer.length = 0


async def test_a_reconnect_after_the_end_gets_204(
    edge: Served, shared_bus: MemoryBus, project: str, producer: Producer
) -> None:
    """204 stops an EventSource: at or after the terminal position, while no newer run exists."""
    async with request(edge.port, stage_path(project)) as browser:
        await browser.next()
        await producer.write(shared_bus, "a")
        await producer.send(shared_bus, producer.done(), producer.refreshed())
        await browser.rest()
        token, done = (event.own_id for event in browser.stream.events[1:3])
        assert browser.stream.last_event_id == done
    async with request(edge.port, stage_path(project), {"Last-Event-ID": str(done)}) as browser:
        assert browser.status == 204
        assert browser.headers["cache-control"] == "no-store"
    async with request(edge.port, stage_path(project), {"Last-Event-ID": str(token)}) as browser:
        assert types(await browser.rest()) == ["connected", "done", "stream_end"], "an end that was missed is shown"
    again = Producer(Topic(project, "rewrite"))
    await again.send(shared_bus, again.update("processing"))
    async with request(edge.port, stage_path(project), {"Last-Event-ID": str(done)}) as browser:
        assert browser.status == 200
        assert types(await browser.take(3)) == ["connected", "reset", "stage_update"], "a newer run has begun"


async def test_overtaken_tokens_and_ends_are_not_replayed(
    edge: Served, shared_bus: MemoryBus, project: str, producer: Producer
) -> None:
    """Who comes back to a newer run starts at its reset: the older run's tokens and its end are gone."""
    async with request(edge.port, stage_path(project)) as browser:
        await browser.next()
        await producer.write(shared_bus, "old")
        await browser.next()
        seen = browser.stream.last_event_id
    await producer.write(shared_bus, " text")
    await producer.send(shared_bus, producer.done())
    again = Producer(Topic(project, "rewrite"))
    await again.write(shared_bus, "new", " text")
    for query in ("", "delta=1"):
        async with request(edge.port, stage_path(project, query=query), {"Last-Event-ID": seen}) as browser:
            messages = await browser.take(3)
            assert types(messages) == ["connected", "reset", "token"]
            assert (messages[1]["reason"], messages[1]["stage"]) == ("run", "rewrite")
            assert messages[2]["content"] == ("new" if query else "new text")


@pytest.mark.parametrize("malformed", ["garbage", "1-2-3", "-", "99999999999999999999-1", "1-%00", "é", " 1 - 2"])
async def test_a_malformed_position_is_answered_with_a_snapshot(
    edge: Served, shared_bus: MemoryBus, project: str, producer: Producer, malformed: str
) -> None:
    """R32: no error that would kill an EventSource, no loop: the snapshot's own id replaces the malformed one."""
    await producer.write(shared_bus, "a", "b")
    async with request(edge.port, stage_path(project), {"Last-Event-ID": malformed}) as browser:
        assert browser.status == 200
        messages = await browser.take(3)
        assert types(messages) == ["connected", "reset", "token"]
        assert messages[2]["full_text"] == "ab"
        last = browser.stream.last_event_id
    await producer.send(shared_bus, producer.done())
    async with request(edge.port, stage_path(project), {"Last-Event-ID": last}) as browser:
        assert types(await browser.rest()) == ["connected", "done", "stream_end"]
