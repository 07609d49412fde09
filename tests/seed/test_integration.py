"""The integration run, by the page's commands: a real Redis, a worker of the queue `llm`, a server, and curl."""

import json
import os
import shlex
import signal

from celery import Celery

from tests.seed.app import ScriptedModel
from tests.seed.documents import ROOT, blocks
from tests.servers import available_redis_kinds, start_redis
from tests.sse.programs import BIN, running
from tests.waiting import wait_until

WORKER_OPTIONS = ["--concurrency", "1", "--without-gossip", "--without-mingle", "--without-heartbeat"]


def page_lines() -> list[str]:
    """The commands of README.zh-CN.md, in their order."""
    (block,) = [block for block in blocks("bash") if "celery -A config" in block.text]
    return [line for line in block.text.splitlines() if line and not line.startswith("#")]


def page_commands() -> tuple[list[str], list[str], list[str]]:
    """Those of the worker, the server and curl. The seed's project and port are the only things that are changed."""
    redis_server, export, worker, server, curl = [shlex.split(line, comments=True) for line in page_lines()]
    assert redis_server == ["redis-server"]
    assert export[:1] + export[1].split("=")[:1] == ["export", "REDIS_URL"]
    assert (worker[:3], server[:2], curl[:2]) == (["celery", "-A", "config"], ["stagecast", "serve"], ["curl", "-N"])
    worker[:3] = [str(BIN / "celery"), "-A", "tests.seed.app:celery_app"]
    server[0] = str(BIN / "stagecast")
    server[server.index("--port") + 1] = "0"
    return worker + WORKER_OPTIONS, server, curl


def test_curl_reads_what_a_worker_of_the_queue_llm_streams() -> None:
    """From connected to stream_end, each token by itself with the text so far; then curl ends with 0."""
    worker_command, server_command, curl_command = page_commands()
    with start_redis(available_redis_kinds()[0]) as redis_server:
        # `running` drops what configures stagecast; REDIS_URL is the seed's own name for it.
        given = {"REDIS_URL": redis_server.url, "TEST_BROKER": redis_server.url, "PYTHONPATH": str(ROOT)}
        with running(worker_command, {**os.environ, **given}) as worker, running(server_command, given) as server:
            try:
                curl_command[-1] = curl_command[-1].replace("localhost:8000", f"127.0.0.1:{server.port}")
                wait_until(lambda: " ready." in worker.output or worker.process.poll() is not None, 30)
                assert worker.process.poll() is None, worker.output
                with running([*curl_command, "--silent"]) as curl:
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
