"""What a browser gets, from a real server over a real connection, on the memory bus."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from stagecast import RedisStreamPublisher
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.events import Event, PipelineCompleted, PipelineFailed
from stagecast.domain.topics import Topic
from stagecast.entrypoints.testing.actors import Producer
from tests.sse.browser import project_path, request, stage_path
from tests.sse.eventstream import types
from tests.sse.serving import Served
from tests.sse.texts import from_contents, from_deltas

TEXT = ["这是", "一段", " 流式 ", "\n\n| a | b |\n", "    ", "😀", "👨\u200d👩\u200d👧", "\u2028end"]


MARKDOWN = """| a | b |
|---|---|
| 1 |  2 |

```python

def f(x):
    if x:
\treturn  "\\n"

```
"""


async def test_a_stage_streams_from_connected_to_stream_end(
    edge: Served, shared_bus: MemoryBus, project: str, producer: Producer
) -> None:
    """The seed's whole conversation: connected, updates, tokens with full_text, done, stream_end; then it closes."""
    async with request(edge.port, stage_path(project)) as browser:
        assert browser.status == 200
        connected = await browser.next()
        assert connected.message == {
            "type": "connected",
            "project_id": project,
            "stage": "rewrite",
            "message": "SSE连接已建立",
        }
        assert connected.own_id is None
        await producer.send(shared_bus, producer.update())
        await producer.write(shared_bus, *TEXT)
        await producer.send(shared_bus, producer.done())
        messages = await browser.rest()
        assert browser.ended
    assert types(messages) == ["stage_update", *["token"] * len(TEXT), "done", "stream_end"]
    assert from_contents(messages) == "".join(TEXT)
    assert [message["content"] for message in messages if message["type"] == "token"] == TEXT
    done, end = messages[-2:]
    assert done["full_text"] == "".join(TEXT)
    assert end == {"type": "stream_end", "project_id": project, "message": "SSE流已关闭"}
    assert browser.stream.events[-1].own_id is None
    assert {event.type for event in browser.stream.events} == {"message"}, "onmessage sees unnamed events only"


async def test_every_stream_has_the_same_headers(
    edge: Served, shared_bus: MemoryBus, project: str, producer: Producer
) -> None:
    """R125: running, finished and replayed streams forbid caching and buffering, and have no hop-by-hop header."""
    await producer.send(shared_bus, producer.done("x"))
    for path in (stage_path(project), stage_path(project, "none"), project_path(project, "replay=latest")):
        async with request(edge.port, path) as browser:
            await browser.next()
            ours = [header for header in browser.header_list if header[0] not in {"date", "server"}]
            assert ours == [
                ("content-type", "text/event-stream; charset=utf-8"),
                ("cache-control", "no-cache, no-transform"),
                ("x-accel-buffering", "no"),
                ("x-content-type-options", "nosniff"),
                ("transfer-encoding", "chunked"),  # uvicorn's own
            ]


async def test_ids_are_the_same_for_every_client_and_rise(
    edge: Served, shared_bus: MemoryBus, project: str, producer: Producer
) -> None:
    """R38, R63: an event has one id, on each connection and route, and the `id` in its message is that id."""
    async with AsyncExitStack() as stack:
        paths = [stage_path(project), stage_path(project), project_path(project), stage_path(project, query="delta=1")]
        browsers = [await stack.enter_async_context(request(edge.port, path)) for path in paths]
        for browser in browsers:
            await browser.next()
        await producer.send(shared_bus, producer.update())
        await producer.write(shared_bus, "a", "b", "c")
        await producer.send(shared_bus, producer.done())
        found = []
        for browser in browsers:
            await browser.until_type("done")
            events = browser.stream.events[1:6]
            assert all(event.own_id == event.message["id"] for event in events)
            found.append([event.own_id for event in events])
    assert found[0] == found[1] == found[2] == found[3]
    numbers = [int(str(id_).partition("-")[2]) for id_ in found[0]]
    assert numbers == sorted(set(numbers))


async def test_delta_tokens_have_offsets_and_no_full_text(
    edge: Served, shared_bus: MemoryBus, project: str, producer: Producer
) -> None:
    """With `?delta=1` the snapshot is a token at offset 0 marked as such; the others carry UTF-16 offsets."""
    await producer.write(shared_bus, *TEXT[:6])
    async with request(edge.port, stage_path(project, query="delta=1")) as browser:
        first = (await browser.take(2))[1]
        assert first["offset"] == 0
        assert first["snapshot"] is True
        await producer.write(shared_bus, *TEXT[6:])
        await producer.send(shared_bus, producer.done())
        messages = [first, *await browser.rest()]
    tokens = [message for message in messages if message["type"] == "token"]
    assert [token["content"] for token in tokens] == ["".join(TEXT[:6]), *TEXT[6:]]
    assert not any("full_text" in token for token in tokens)
    assert from_deltas(messages) == "".join(TEXT)
    assert messages[-2]["full_text"] == "".join(TEXT), "done keeps its full_text"


@pytest.mark.parametrize("end", ["done", "error"])
async def test_the_project_route_shows_all_stages_until_the_pipeline_ends(
    edge: Served, shared_bus: MemoryBus, project: str, end: str
) -> None:
    """A stage's end is news there; `pipeline_done` or `pipeline_error` ends it, and a reconnect gets 204."""
    first, second = Producer(Topic(project, "rewrite")), Producer(Topic(project, "storyboard"))
    pipeline = Producer(Topic(project, "pipeline"))
    await first.write(shared_bus, "a")
    await first.send(shared_bus, first.done())
    async with request(edge.port, project_path(project)) as browser:
        messages = await browser.take(3)
        assert types(messages) == ["connected", "token", "done"], "finished stages of the pipeline are shown"
        assert messages[0]["stage"] is None
        await second.write(shared_bus, "b")
        await second.send(shared_bus, second.failed())
        last: Event = PipelineCompleted(project=project, stage="pipeline", timestamp=1.0, metadata={"ok": True})
        if end == "error":
            last = PipelineFailed(project=project, stage="pipeline", timestamp=1.0, error="boom")
        await pipeline.send(shared_bus, last)
        assert types(await browser.rest()) == ["token", "error", f"pipeline_{end}", "stream_end"]
        seen = browser.stream.last_event_id
    async with request(edge.port, project_path(project), {"Last-Event-ID": seen}) as browser:
        assert browser.status == 204
    async with request(edge.port, project_path(project)) as browser:
        assert types(await browser.rest())[-2:] == [f"pipeline_{end}", "stream_end"], "just missed"
    await first.send(shared_bus, first.update("again"))
    async with request(edge.port, project_path(project), {"Last-Event-ID": seen}) as browser:
        assert types(await browser.take(3)) == ["connected", "reset", "stage_update"], "the next pipeline runs"


@pytest.mark.parametrize("query", ["", "delta=1"], ids=["whole", "delta"])
async def test_text_survives_whatever_its_pieces_are(
    edge: Served, shared_bus: MemoryBus, project: str, query: str
) -> None:
    """R68, R72: Markdown and code piece by piece, emoji cut between their code points, even between surrogates."""
    pieces = [
        *MARKDOWN,
        "👨",
        "\u200d",
        "👩\u200d",
        "👧",
        "\ud83d",
        "\ude00",
        "e",
        "\u0301",
        "连",
        "接",
        "\u2028",
        "\r",
        "\r\n",
    ]
    text = MARKDOWN + "👨\u200d👩\u200d👧😀e\u0301连接\u2028\r\r\n"
    async with request(edge.port, stage_path(project, query=query)) as browser:
        await browser.next()
        with RedisStreamPublisher(project, "rewrite", bus=shared_bus) as publisher:
            assert all(publisher.publish_token(piece) for piece in pieces)
            assert await asyncio.to_thread(publisher.publish_done, text)
        messages = await browser.rest()
    assert (from_deltas(messages) if query else from_contents(messages)) == text
    assert messages[-2]["full_text"] == text


async def test_a_skipped_stage_ends_its_stream(edge: Served, shared_bus: MemoryBus, project: str) -> None:
    """No spinner on a stage that is not needed: a final update without a run ends the stream."""
    producer = Producer(Topic(project, "rewrite"))
    async with request(edge.port, stage_path(project)) as browser:
        await browser.next()
        await producer.send(shared_bus, producer.update("skipped", 100))
        assert types(await browser.rest()) == ["stage_update", "stream_end"]


async def test_a_large_event_arrives_whole_beside_others(
    edge: Served, shared_bus: MemoryBus, project: str, producer: Producer
) -> None:
    """R74, R75: an event just below the limit, and a result of 200 kB, reach the client in one piece."""
    async with (
        request(edge.port, stage_path(project)) as browser,
        request(edge.port, stage_path(project, "b")) as other,
    ):
        await browser.next()
        await other.next()
        neighbour = Producer(Topic(project, "b"))
        large = "大" * 300_000
        await producer.write(shared_bus, large)
        await neighbour.write(shared_bus, "small")
        await producer.send(shared_bus, producer.done("x" * 200_000))
        assert (await other.next()).message["full_text"] == "small"
        token, done, _ = await browser.rest()
        assert token["content"] == large
        assert done["full_text"] == "x" * 200_000


@pytest.mark.parametrize("path", ["", "/stages/rewrite", "/stages/rewrite/stream", "/stream"])
async def test_no_redirect_repeats_a_ticket(edge: Served, project: str, path: str) -> None:
    """Without its last slash a URL is served as it is, not sent on to the host that the request has named."""
    async with request(edge.port, f"/api/v1/sse/projects/{project}{path}?last_event_id=1-1") as answer:
        assert answer.status == (401 if path.endswith("stream") else 200)
        assert "location" not in answer.headers
