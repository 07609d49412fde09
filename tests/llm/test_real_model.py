"""A real language model, through a real Celery worker, a real Redis and the SSE routes."""

import json
import os
import threading
from typing import Any

import httpx
import httpx_sse
import pytest

from stagecast.entrypoints.demo.parts import MODEL_NAME
from stagecast.entrypoints.subscribers import RedisStreamSubscriber
from tests.demo import demo_process
from tests.reading import rebuilt
from tests.servers import RedisServer

TEXT = (
    "The lighthouse keeper had not seen a ship for nine days. She lit the lamp although the sun was already high, and "
    "a paper boat answered with a spark. By midnight the harbour was full of small lights, and nobody in the village "
    "could say who had sent them. In the morning the sea was empty again, but the keeper was smiling."
)
LEAST = 32


@pytest.mark.llm
@pytest.mark.timeout(300)
def test_a_real_models_tokens_reach_the_browser(any_redis: RedisServer) -> None:
    """At least 32 tokens of one stage, live, one by one; their text is what an independent subscriber was given."""
    published: list[dict[str, Any]] = []
    environ = {**os.environ, "REDIS_URL": any_redis.url}
    with (
        demo_process("--redis", "--llm", "--port", "0", environ=environ) as demo,
        RedisStreamSubscriber("123", "rewrite", bus=any_redis.url) as subscriber,
    ):
        url = demo.url()
        assert httpx.get(f"{url}demo/setting", timeout=10).json()["model"] == MODEL_NAME
        subscriber.subscribe()
        thread = threading.Thread(target=lambda: published.extend(subscriber.listen(timeout=120)))
        thread.start()
        assert httpx.post(f"{url}demo/runs", json={"text": TEXT}, timeout=10).status_code == 202
        with (
            httpx.Client(timeout=120) as client,
            httpx_sse.connect_sse(client, "GET", f"{url}api/v1/sse/projects/123/stages/rewrite/") as source,
        ):
            seen = [json.loads(event.data) for event in source.iter_sse() if event.data]
        thread.join(120)

    tokens = [message for message in seen if message["type"] == "token"]
    done = next(message for message in seen if message["type"] in {"done", "error"})
    assert done["type"] == "done", done
    assert done["metadata"]["model"] == MODEL_NAME
    assert done["metadata"]["tokens"] >= LEAST
    assert len(tokens) >= LEAST
    assert rebuilt(seen) == rebuilt(published)
    assert len(rebuilt(seen).split()) >= LEAST / 2
    assert rebuilt(seen) != TEXT
    assert seen[-1]["type"] == "stream_end"
