"""`./run_asgi.sh`, the start script that the specification names."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from stagecast import RedisStreamPublisher
from tests.asgi_servers.launching import COMMANDS, launched
from tests.servers import RedisServer, free_port
from tests.sse.browser import request, stage_path

SCRIPT = Path(__file__).parents[2] / "run_asgi.sh"


@pytest.mark.parametrize("name", [None, *COMMANDS])
async def test_it_starts_the_server_that_is_named(name: str | None, redis: RedisServer, project: str) -> None:
    """By default and by SERVER a stream arrives, and the script's own process is the server, which a signal ends."""
    port = free_port()
    environment = {"STAGECAST_BUS": redis.url, "PORT": str(port), **({"SERVER": name} if name else {})}
    with launched([str(SCRIPT)], port, environment) as server:
        async with request(port, stage_path(project)) as browser:
            await browser.next()
            with RedisStreamPublisher(project, "rewrite", bus=redis.url) as publisher:
                publisher.publish_token("a")
                assert (await browser.next()).message["content"] == "a"
            server.send(signal.SIGTERM)
            await browser.rest()
            assert browser.stream.retry is not None
        server.exit_code(8)


def says(script: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Exit code and standard error."""
    done = subprocess.run([str(script)], env=environment, capture_output=True, text=True, timeout=10, check=False)
    return done.returncode, done.stderr


def test_an_unknown_server_is_refused() -> None:
    """Exit code 2, and one line that says which there are."""
    code, error = says(SCRIPT, {**os.environ, "SERVER": "apache"})
    assert code == 2
    assert error.count("\n") == 1
    assert "apache" in error
    assert all(name in error for name in COMMANDS)


@pytest.mark.parametrize(("name", "package"), [("daphne", "daphne"), ("gunicorn", "gunicorn uvicorn-worker")])
def test_a_server_that_is_not_installed_is_named(name: str, package: str, tmp_path: Path) -> None:
    """Exit code 2, and what to install."""
    copy = Path(shutil.copy(SCRIPT, tmp_path))  # without a virtual environment beside it
    code, error = says(copy, {"PATH": "/usr/bin:/bin", "SERVER": name})
    assert code == 2
    assert error == f"run_asgi.sh: there is no program {name}: pip install {package}\n"
