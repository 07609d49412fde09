"""The seed's integration run: a real Redis, a real worker of the queue `llm`, a real server, and curl."""

import json
import os
import signal
import sys
from pathlib import Path

from celery import Celery

from tests.seed.app import ScriptedModel
from tests.servers import available_redis_kinds, start_redis
from tests.sse.programs import SERVE, running
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
WORKER = [sys.executable, "-m", "celery", "-A", "tests.seed.app:celery_app", "worker", "-Q", "llm", "-l", "info"]
WORKER += ["--concurrency", "1", "--without-gossip", "--without-mingle", "--without-heartbeat"]


def test_curl_reads_what_a_worker_of_the_queue_llm_streams() -> None:
    """From connected to stream_end, each token by itself with the text so far; then curl ends with 0."""
    with start_redis(available_redis_kinds()[0]) as redis_server:
        # `running` drops what configures stagecast; REDIS_URL is the seed's own name for it.
        given = {"REDIS_URL": redis_server.url, "TEST_BROKER": redis_server.url, "PYTHONPATH": str(ROOT)}
        with running(WORKER, {**os.environ, **given}) as worker, running(SERVE, given) as server:
            try:
                url = f"http://127.0.0.1:{server.port}/api/v1/sse/projects/123/stages/rewrite/"
                wait_until(lambda: " ready." in worker.output or worker.process.poll() is not None, 30)
                assert worker.process.poll() is None, worker.output
                with running(["curl", "-sN", url]) as curl:
                    wait_until(lambda: '"connected"' in curl.output, 10)
                    with Celery(broker=redis_server.url, set_as_current=False) as sender:
                        sender.send_task("tests.seed.app.execute_llm_stage", ("123", "rewrite", {}), queue="llm")
                    assert curl.exit_code(20) == 0
                    data = [line.removeprefix("data: ") for line in curl.lines if line.startswith("data: ")]
            finally:
                worker.process.send_signal(signal.SIGTERM)
                worker.exit_code(20)
    messages = [json.loads(line) for line in data]
    assert [message["type"] for message in messages] == [
        "connected",
        "stage_update",
        *["token"] * len(ScriptedModel.tokens),
        "done",
        "stream_end",
    ]
    text = "".join(ScriptedModel.tokens)
    assert messages[-3]["full_text"] == text
    assert messages[-2]["full_text"] == text
    assert messages[-2]["metadata"] == {"tokens_used": 1000, "latency_ms": 2500}
    assert all(message["stage"] == "rewrite" for message in messages[:-1])
