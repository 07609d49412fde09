"""The demo with a real Redis, Celery worker and web server, as `redis-cli` and `curl` see it."""

import json
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import httpx_sse
import pytest
import redis

from stagecast.entrypoints.demo.writer import narration
from tests.demo import TEXT, DemoProcess, demo_process, descendants
from tests.reading import rebuilt
from tests.servers import RedisServer, start_redis
from tests.waiting import wait_until

STREAM = "api/v1/sse/projects/123/stages/{}/"
PACE = 80


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with start_redis("valkey") as running:
        yield running


@pytest.fixture(scope="module")
def demo(server: RedisServer) -> Iterator[DemoProcess]:
    environ = {**os.environ, "REDIS_URL": server.url, "STAGECAST_DEMO_PACE": str(PACE)}
    with demo_process("--redis", "--port", "0", environ=environ) as running:
        running.url()
        yield running


@pytest.fixture
def url(demo: DemoProcess) -> str:
    """The page's URL."""
    return demo.url()


def post_job(url: str, **job: Any) -> None:
    assert httpx.post(f"{url}demo/runs", json={"text": TEXT, **job}, timeout=10).status_code == 202


def events(
    url: str, stage: str, parameters: dict[str, str] | None = None, last_event_id: str | None = None
) -> Iterator[httpx_sse.ServerSentEvent]:
    """The events of a stage's stream, to its end."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    with (
        httpx.Client(timeout=30) as client,
        httpx_sse.connect_sse(client, "GET", url + STREAM.format(stage), params=parameters, headers=headers) as source,
    ):
        yield from (event for event in source.iter_sse() if event.data)  # a browser dispatches no others


def messages(
    url: str, stage: str, parameters: dict[str, str] | None = None, last_event_id: str | None = None
) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in events(url, stage, parameters, last_event_id)]


class Channels:
    """What `redis-cli psubscribe "ai_story:*"` shows."""

    def __init__(self, server: RedisServer) -> None:
        self._client = redis.Redis(port=server.port, socket_timeout=30)
        self._pubsub = self._client.pubsub()  # type: ignore[no-untyped-call]
        self._pubsub.psubscribe("ai_story:*")
        wait_until(lambda: self._pubsub.get_message(timeout=1))

    def until(self, last: str) -> list[tuple[str, dict[str, Any]]]:
        """Channel and message of everything up to the first message of type `last`."""
        found: list[tuple[str, dict[str, Any]]] = []
        while not found or found[-1][1]["type"] != last:
            got = self._pubsub.get_message(timeout=30)
            assert got is not None, found[-3:]
            found.append((got["channel"].decode(), json.loads(got["data"])))
        return found

    def close(self) -> None:
        self._pubsub.close()
        self._client.close()


def test_foreign_readers_of_the_seeds_channels_see_each_message_once(server: RedisServer, url: str) -> None:
    """The channel, the seed's fields, each id once and in order; the tokens' pieces make the text."""
    channels = Channels(server)
    post_job(url)
    seen = channels.until("pipeline_done")
    channels.close()
    assert {channel for channel, _ in seen} == {
        f"ai_story:project:123:stage:{stage}" for stage in ("rewrite", "storyboard", "image_generation", "pipeline")
    }
    numbers = [int(message["id"].partition("-")[2]) for _, message in seen]
    assert numbers == sorted(set(numbers))
    tokens = [message for _, message in seen if message["type"] == "token" and message["stage"] == "rewrite"]
    assert "".join(token["content"] for token in tokens) == narration(TEXT)
    assert all(token["project_id"] == "123" and token["timestamp"] > 0 for token in tokens)


def test_curl_sees_the_stage_from_connected_to_stream_end(url: str) -> None:
    """connected, tokens with full_text, done, stream_end."""
    post_job(url)
    seen = messages(url, "rewrite")
    assert seen[0]["type"] == "connected"
    assert [message["type"] for message in seen[-2:]] == ["done", "stream_end"]
    assert rebuilt(seen) == narration(TEXT)


def test_a_late_curl_gets_the_whole_text_in_one_message(url: str) -> None:
    """The stage's cost is one token message, however many it had."""
    post_job(url)
    messages(url, "storyboard")
    late = [message for message in messages(url, "rewrite", {"replay": "latest"}) if message["type"] == "token"]
    assert [message["full_text"] for message in late] == [narration(TEXT)]


def test_a_curl_with_last_event_id_gets_exactly_the_rest(url: str) -> None:
    """What came before the id and what comes after it make the text, without gap or overlap."""
    post_job(url)
    before: list[dict[str, Any]] = []
    position = ""
    for event in events(url, "rewrite"):
        before.append(json.loads(event.data))
        if len(rebuilt(before)) >= 60:
            position = event.id
            break
    assert position
    after = messages(url, "rewrite", last_event_id=position)
    pieces = [message["content"] for message in after if message["type"] == "token"]
    assert rebuilt(before) + "".join(pieces) == narration(TEXT)
    assert len(pieces) > 1


def test_nothing_in_redis_lives_for_ever(server: RedisServer, url: str) -> None:
    """Every key of the project has a time to live."""
    post_job(url)
    messages(url, "image_generation")
    with server.client() as client:
        keys = client.keys("stagecast:*")
        assert keys
        assert all(client.ttl(key) > 0 for key in keys)


def test_a_killed_worker_process_is_no_endless_spinner(demo: DemoProcess, url: str) -> None:
    """The stage, those behind it and the pipeline end with their errors at once; what was streamed stays."""
    post_job(url)
    seen: list[dict[str, Any]] = []
    for event in events(url, "rewrite"):
        seen.append(json.loads(event.data))
        if len(rebuilt(seen)) >= 20:
            worker = re.search(r"Celery worker  process (\d+)", demo.output)
            assert worker is not None
            for process in descendants(int(worker.group(1))):
                os.kill(process, signal.SIGKILL)
            break
    ended = messages(url, "rewrite", {"replay": "latest"})
    assert ended[-2]["type"] == "error"
    assert narration(TEXT).startswith(rebuilt(ended))
    assert len(rebuilt(ended)) >= 20
    assert messages(url, "image_generation", {"replay": "latest"})[-2]["reason"] == "cancelled"
