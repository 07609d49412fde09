"""Clients that come for the first time: early, late, with a run, before there is anything."""

import asyncio
from contextlib import AsyncExitStack

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.topics import Topic
from stagecast.entrypoints.testing.actors import Producer, queued
from tests.sse.browser import project_path, request, stage_path
from tests.sse.eventstream import Message, types
from tests.sse.serving import Served, viewers_of
from tests.sse.texts import from_contents
from tests.waiting import eventually

TEXT = ["这是", "一段", " 流式 ", "\n\n| a | b |\n", "    ", "😀", "👨\u200d👩\u200d👧", "\u2028end"]


async def test_a_late_client_gets_the_text_in_one_message(
    edge: Served, shared_bus: MemoryBus, project: str, producer: Producer
) -> None:
    """R29: a run in progress is shown at once by its snapshot, whose last message alone carries an id."""
    await producer.send(shared_bus, producer.update(progress=40), producer.progress(2, 5), producer.item(1))
    await producer.write(shared_bus, *TEXT)
    async with request(edge.port, stage_path(project)) as browser:
        messages = await browser.take(5)
        assert types(messages) == ["connected", "stage_update", "token", "item_completed", "progress"]
        assert messages[2]["content"] == messages[2]["full_text"] == "".join(TEXT)
        assert [event.own_id is None for event in browser.stream.events] == [True, True, True, True, False]
        await producer.write(shared_bus, "!")
        assert (await browser.next()).message["full_text"] == "".join(TEXT) + "!"


async def test_a_finished_run_is_shown_only_for_a_while(
    edge: Served, shared_bus: MemoryBus, project: str, producer: Producer
) -> None:
    """A `done` that was just missed is shown to a fresh client, with the text, and the stream ends."""
    await producer.write(shared_bus, "a")
    await producer.send(shared_bus, producer.done())
    async with request(edge.port, stage_path(project)) as browser:
        assert types(await browser.rest()) == ["connected", "token", "done", "stream_end"]
    async with request(edge.port, stage_path(project, query="replay=latest")) as browser:
        assert types(await browser.rest()) == ["connected", "token", "done", "stream_end"]


async def test_one_run_can_be_followed(edge: Served, shared_bus: MemoryBus, project: str, producer: Producer) -> None:
    """R30: `?run=` shows that run, ends when another supersedes it, and is a quick 404 where it is unknown."""
    await producer.write(shared_bus, "a")
    run = producer.run
    for path in (stage_path(project, query=f"run={run}"), project_path(project, f"run={run}")):
        async with request(edge.port, path) as browser:
            messages = await browser.take(2)
            assert (messages[0]["stage"], messages[1]["full_text"]) == ("rewrite", "a")
    async with request(edge.port, stage_path(project, query=f"run={run}")) as browser:
        await browser.take(2)
        await shared_bus.open_run(queued(Topic(project, "rewrite"), "next"))
        assert types(await browser.rest()) == ["stream_end"], "superseded while watched"
    for unknown in (str(run), "no-such-run", "%00"):
        async with request(edge.port, stage_path(project, query=f"run={unknown}")) as browser:
            assert browser.status == 404
            assert browser.headers["content-type"] == "application/problem+json"


async def test_a_queued_run_is_waited_for(edge: Served, shared_bus: MemoryBus, project: str) -> None:
    """R30: a project nobody has published to is a 200 that waits; a queued run is shown; then its events come."""
    topic = Topic(project, "rewrite")
    async with request(edge.port, stage_path(project)) as early:
        await early.next()
        await shared_bus.open_run(queued(topic, "task-1"))
        assert (await early.next()).message["status"] == "queued"
        async with request(edge.port, stage_path(project)) as late:
            assert [message.get("status") for message in await late.take(2)] == [None, "queued"]
            worker = Producer(topic)
            await worker.open(shared_bus, "task-1")
            await worker.write(shared_bus, "a")
            assert (await early.next()).message["content"] == (await late.next()).message["content"] == "a"


async def test_every_fresh_client_sees_a_run_from_its_beginning(
    edge: Served, shared_bus: MemoryBus, project: str, producer: Producer
) -> None:
    """R25: whenever clients come while a task starts, each sees `started` first, and nothing of the run before."""
    await producer.write(shared_bus, "yesterday")
    await producer.send(shared_bus, producer.done())
    worker = Producer(Topic(project, "rewrite"))
    begun = asyncio.Event()

    async def client(number: int) -> list[Message]:
        if number >= 10:
            await begun.wait()
        async with request(edge.port, stage_path(project, query=f"run=task&n={number}")) as browser:
            return (await browser.until_type("done"))[1:]

    await worker.open(shared_bus, "task")
    await worker.send(shared_bus, worker.update("started"))
    clients = [asyncio.create_task(client(number)) for number in range(20)]
    await worker.write(shared_bus, "to", "day")
    begun.set()
    await eventually(lambda: len(viewers_of(edge, project)) == 20)
    await worker.send(shared_bus, worker.done())
    for messages in await asyncio.gather(*clients):
        assert messages[0]["status"] == "started"
        assert from_contents(messages) == "today"


async def test_the_first_byte_comes_when_nothing_can_be_missed_any_more(
    edge: Served, shared_bus: MemoryBus, project: str
) -> None:
    """R26: the job starts at the first byte of the stream, beside 200 others; its first token arrives."""
    async with AsyncExitStack() as stack:
        others = [
            await stack.enter_async_context(request(edge.port, stage_path(project, f"other{n}"))) for n in range(200)
        ]
        async with request(edge.port, stage_path(project)) as browser:
            await browser.read_more()
            producer = Producer(Topic(project, "rewrite"))
            await producer.write(shared_bus, "first", " second")
            await producer.send(shared_bus, producer.done())
            assert from_contents(await browser.rest()) == "first second"
        assert all(other.status == 200 for other in others)
    await eventually(lambda: not viewers_of(edge, project))
