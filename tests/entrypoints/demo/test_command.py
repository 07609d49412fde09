"""`stagecast demo` as a user runs it: its words, its ends, its parts in processes of their own."""

import os
import re
import signal
import socket
from pathlib import Path

import httpx
import pytest

from stagecast.adapters import openai
from tests.demo import DemoProcess, demo_process, descendants, is_running
from tests.servers import RedisServer, free_port
from tests.waiting import wait_until

ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith(("STAGECAST_", "REDIS_"))}


def post_job(demo: DemoProcess) -> None:
    assert httpx.post(f"{demo.url()}demo/runs", json={"text": "A boat. " * 30}, timeout=10).status_code == 202


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_in_memory_ends_when_it_is_told_to(number: signal.Signals) -> None:
    """In seconds and with code 0, also in the middle of a pipeline that somebody watches."""
    with demo_process("--port", "0", environ=ENVIRON) as demo:
        post_job(demo)
        with httpx.stream("GET", f"{demo.url()}api/v1/sse/projects/123/", timeout=10) as stream:
            next(stream.iter_lines())
            assert demo.end(number) == 0
        assert "Traceback" not in demo.output, demo.output
        assert "memory, one process" in demo.output
        assert "No language model" in demo.output


def test_a_taken_port_is_told() -> None:
    """With what to do about it, and code 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with demo_process("--port", str(port), environ=ENVIRON) as demo:
            assert demo.process.wait(20) == 1
            assert demo.end() == 1
            assert f"port {port} of 127.0.0.1 cannot be used" in demo.output
            assert "PORT=" in demo.output
            assert "Traceback" not in demo.output


def test_the_users_file_is_the_text_to_begin_with(tmp_path: Path) -> None:
    """`--input FILE` in UTF-8."""
    file = tmp_path / "story.txt"
    file.write_text("船来了 🌊。", encoding="utf-8")
    with demo_process("--port", "0", "--input", str(file), environ=ENVIRON) as demo:
        assert httpx.get(f"{demo.url()}demo/setting", timeout=10).json()["text"] == "船来了 🌊。"


@pytest.mark.parametrize(
    ("arguments", "environ", "reason"),
    [
        (["--input", "/nowhere/story.txt"], {}, "/nowhere/story.txt cannot be read"),
        (["--port", "70000"], {}, "70000 is no port"),
        ([], {"STAGECAST_DEMO_PACE": "fast"}, "STAGECAST_DEMO_PACE must be"),
        ([], {openai.URL_VARIABLE: "http://127.0.0.1:9/v1"}, f"set {openai.MODEL_VARIABLE}"),
        (["--redis"], {"REDIS_URL": "nonsense"}, "REDIS_URL is no URL"),
    ],
)
def test_a_wrong_setting_is_told(arguments: list[str], environ: dict[str, str], reason: str) -> None:
    """Before anything is started, and without a traceback."""
    with demo_process("--port", "0", *arguments, environ={**ENVIRON, **environ}) as demo:
        assert demo.process.wait(20) in {1, 2}
        demo.end()
        assert reason in demo.output
        assert "Traceback" not in demo.output


def test_a_users_model_is_used_in_any_mode() -> None:
    """The page names it, nothing is asked of it before a job runs; why it fails is told in the terminal alone."""
    environ = {**ENVIRON, openai.URL_VARIABLE: f"http://127.0.0.1:{free_port()}/v1", openai.MODEL_VARIABLE: "big-1"}
    with demo_process("--port", "0", environ=environ) as demo:
        setting = httpx.get(f"{demo.url()}demo/setting", timeout=10).json()
        assert setting["model"] == "big-1"
        httpx.post(f"{demo.url()}demo/runs", json={"text": "A boat."}, timeout=10)
        with httpx.stream("GET", f"{demo.url()}api/v1/sse/projects/123/?replay=latest", timeout=20) as stream:
            shown = stream.read().decode()
        assert "pipeline_error" in shown
        assert "127.0.0.1" not in shown
        found = re.search(r"The stage failed \(error [0-9a-f]{8}\)", shown)
        assert found
        reason = wait_until(lambda: re.search(f"{re.escape(found[0])}: .*127.0.0.1", demo.output))
        assert "ModelFailed" in str(reason)


def test_a_redis_of_its_own_ends_with_the_demo() -> None:
    """Where REDIS_URL does not answer, a server is started; all parts are gone after SIGTERM, even in mid-stream."""
    environ = {**ENVIRON, "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    with demo_process("--redis", "--port", "0", environ=environ) as demo:
        post_job(demo)
        children = descendants(demo.process.pid)
        assert "does not answer" in demo.output
        assert 'psubscribe "ai_story:*"' in demo.output
        assert "curl -N http://127.0.0.1:" in demo.output
        assert all(part in " ".join(children.values()) for part in ("celery", "uvicorn", "valkey"))
        assert demo.end() == 0
        wait_until(lambda: not any(map(is_running, children)), 5)
        assert "Traceback" not in demo.output, demo.output


def test_a_part_that_dies_ends_the_demo_with_its_log(any_redis: RedisServer) -> None:
    """A dead worker is told, not waited for for ever."""
    with demo_process("--redis", "--port", "0", environ={**ENVIRON, "REDIS_URL": any_redis.url}) as demo:
        demo.url()
        worker = re.search(r"Celery worker  process (\d+)", demo.output)
        assert worker is not None
        os.kill(int(worker.group(1)), signal.SIGKILL)
        assert demo.process.wait(20) == 1
        demo.end()
        assert "the Celery worker has ended with code -9" in demo.output
