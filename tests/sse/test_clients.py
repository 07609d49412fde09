"""Clients that err, ask for the head only, go away, or read slowly."""

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.topics import Topic
from stagecast.entrypoints.testing.actors import Producer
from tests.sse.browser import project_path, request, stage_path
from tests.sse.eventstream import types
from tests.sse.serving import Served, viewers_of
from tests.sse.texts import from_contents, from_deltas
from tests.waiting import eventually


async def test_invalid_requests_are_refused_before_the_stream(edge: Served, project: str) -> None:
    """R46: 400 for an id that is none, 404 for a path, 405 for a method, each as a JSON problem."""
    long = "x" * 129
    for path, method, status in (
        (stage_path("a b".replace(" ", "%20")), "GET", 400),
        (stage_path("a%0d%0ab"), "GET", 400),
        (stage_path("a%00"), "GET", 400),
        (stage_path(long), "GET", 400),
        (stage_path(project, "%2A"), "GET", 400),
        (stage_path("a%2Fb"), "GET", 404),
        ("/api/v1/sse/", "GET", 404),
        (stage_path(project), "POST", 405),
        (project_path(project), "DELETE", 405),
    ):
        async with request(edge.port, path, method=method) as response:
            assert response.status == status, path
            assert response.headers["content-type"] == "application/problem+json"
            assert (await response.body())["status"] == status


async def test_head_is_answered_without_a_stream(edge: Served, project: str) -> None:
    """HEAD has the headers of GET and ends."""
    async with request(edge.port, stage_path(project), method="HEAD") as response:
        assert response.status == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert not viewers_of(edge, project)


async def test_a_client_that_goes_leaves_nothing_behind(edge: Served, shared_bus: MemoryBus, project: str) -> None:
    """Whether it goes from a quiet stream or from the middle of a busy one."""
    producer = Producer(Topic(project, "rewrite"))
    async with request(edge.port, stage_path(project)) as browser, request(edge.port, project_path(project)) as other:
        await browser.next()
        await producer.write(shared_bus, "a")
        await browser.next()
        await other.next()
        await eventually(lambda: len(viewers_of(edge, project)) == 2)
    await eventually(lambda: not viewers_of(edge, project))


@pytest.mark.parametrize("query", ["delta=1", ""], ids=["delta", "whole"])
async def test_a_slow_client_is_not_cut_off(
    edge: Served, shared_bus: MemoryBus, project: str, producer: Producer, query: str
) -> None:
    """R107: one that reads nothing while megabytes pass gets the whole text later, and delays nobody."""
    pieces = [f"{number:06d} {'x' * 2000};" for number in range(3000)]
    text = "".join(pieces)
    async with (
        request(edge.port, stage_path(project, query=query), receive_buffer=4096) as slow,
        request(edge.port, stage_path(project, query="delta=1")) as quick,
    ):
        await quick.next()
        await eventually(lambda: len(viewers_of(edge, project)) == 2)
        for start in range(0, len(pieces), 50):
            await producer.write(shared_bus, *pieces[start : start + 50])
            await quick.until(lambda message, s=start: message["content"] == pieces[s + 49])  # type: ignore[misc]
        assert from_deltas(quick.messages) == text
        await producer.send(shared_bus, producer.done(""))
        messages = await slow.rest()
    assert types(messages)[-2:] == ["done", "stream_end"]
    if query:
        assert from_deltas(messages) == text
        assert "truncated" in [message.get("reason") for message in messages], "too far behind for its tokens"
    else:
        assert from_contents(messages) == text
