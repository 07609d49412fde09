"""The Django example: a real worker, and its ASGI application under real servers, told the bus by Django's settings."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from attrs import frozen
from playwright.sync_api import sync_playwright

from tests.asgi_servers.launching import COMMANDS, Launched, launched
from tests.browser.conftest import CHROMIUM, OPTIONS
from tests.reading import rebuilt, told
from tests.servers import available_redis_kinds, free_port, start_redis
from tests.sse.programs import running
from tests.waiting import wait_until

PROJECT = Path(__file__).parents[2] / "examples" / "django"
WORKER = [sys.executable, "-m", "celery", "-A", "config", "worker", "-Q", "llm", "-l", "info", "--concurrency", "1"]
WORKER += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
MANAGE = [sys.executable, str(PROJECT / "manage.py")]
APPLICATION = "config.asgi:application"
SERVERS: dict[str, Callable[[str, int], list[str]]] = {
    **{name: COMMANDS[name] for name in ("daphne", "uvicorn")},
    "runserver": lambda _, port: [*MANAGE, "runserver", "--noreload", f"127.0.0.1:{port}"],
}
CONFIGURES = re.compile("(STAGECAST|REDIS|CELERY|DJANGO)_")
SETTINGS = """
from config.settings import *

REDIS_URL = CELERY_BROKER_URL = {url!r}
STAGECAST_SSE_HEARTBEAT = 0.5
"""
VITE = "http://localhost:5173"
HEARTBEATS_SECONDS = 10.0
"""Two of them come within one by Django's settings, within 30 by default."""
SECONDS = 30.0


@frozen
class Site:
    """The environment of the project's programs, and Redis as Django's settings name it."""

    given: dict[str, str]
    redis_url: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The project with Redis and a worker; what configures stagecast stands in Django's settings alone."""
    folder = tmp_path_factory.mktemp("django")
    inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    given = {
        "DJANGO_SETTINGS_MODULE": "settings_of_the_test",
        "PYTHONPATH": os.pathsep.join([str(PROJECT), str(folder), *inherited]),
    }
    with start_redis(available_redis_kinds()[0]) as redis, pytest.MonkeyPatch.context() as environment:
        for name in filter(CONFIGURES.match, list(os.environ)):
            environment.delenv(name)
        url = f"redis://127.0.0.1:{redis.port}/5"
        (folder / "settings_of_the_test.py").write_text(SETTINGS.format(url=url))
        with running(WORKER, given) as worker:
            try:
                wait_until(lambda: " ready." in worker.output or worker.process.poll() is not None, SECONDS)
                assert worker.process.poll() is None, worker.output
                yield Site(given, url)
            finally:
                worker.process.send_signal(signal.SIGTERM)
                worker.exit_code(SECONDS)


@contextmanager
def serving(name: str, site: Site) -> Iterator[Launched]:
    """The project's ASGI application under the server `name`."""
    port = free_port()
    with launched(SERVERS[name](APPLICATION, port), port, site.given, str(PROJECT)) as server:
        yield server


@pytest.fixture(scope="module", params=list(SERVERS))
def server(request: pytest.FixtureRequest, site: Site) -> Iterator[Launched]:
    """Each server in turn."""
    with serving(request.param, site) as server:
        yield server


@pytest.fixture
def django(server: Launched) -> Iterator[httpx.Client]:
    """A client of the server."""
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=SECONDS) as client:
        yield client


def test_a_view_enqueues_a_task_whose_stream_is_served_beside_it(django: httpx.Client) -> None:
    """Who watches from before the view is called gets heartbeats as Django's settings say, then each token and done."""
    project = uuid4().hex
    stream = f"/api/v1/sse/projects/{project}/stages/rewrite/"
    with running(["curl", "-sN", str(django.base_url.join(stream))]) as curl:
        wait_until(lambda: curl.output.count(": heartbeat") >= 2, HEARTBEATS_SECONDS)
        answer = django.post(f"/projects/{project}/rewrite/")
        assert (answer.status_code, answer.json()) == (202, {"stream": stream})
        assert curl.exit_code(SECONDS) == 0
        messages = [json.loads(line.removeprefix("data: ")) for line in curl.lines if line.startswith("data: ")]
    assert told(messages) == ["connected", "processing", "token", "done", "stream_end"]
    assert len([message for message in messages if message["type"] == "token"]) > 10
    text = rebuilt(messages)
    assert text.startswith("从前有一座山")
    assert messages[-2]["full_text"] == text


def test_djangos_pages_are_djangos(django: httpx.Client) -> None:
    """What is not a stream is answered by Django, its refusals too; and by stagecast where it is healthy."""
    page = django.get("/")
    assert page.status_code == 200
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert "EventSource" in page.text
    assert django.get("/projects/123/rewrite/").status_code == 405
    assert django.get("/nowhere/").status_code == 404
    assert django.get("/readyz").json() == {"status": "ok"}


def test_a_list_in_djangos_settings_names_the_origins(django: httpx.Client) -> None:
    """STAGECAST_CORS_ORIGINS is a Python list there, and counts."""
    stream = "/api/v1/sse/projects/123/stages/rewrite/"
    for origin, allowed in ((VITE, VITE), ("http://localhost:5174", None)):
        answer = django.head(stream, headers={"Origin": origin})
        assert answer.headers.get("Access-Control-Allow-Origin") == allowed


@pytest.mark.browser
def test_the_page_shows_the_text(site: Site) -> None:
    """A press of its button enqueues the task, and the text appears."""
    with serving("daphne", site) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.get_by_role("button").click()
        page.get_by_text("done", exact=True).wait_for(timeout=SECONDS * 1000)
        assert (page.locator("#text").text_content() or "").endswith("nothing is lost 🕯️。")
        browser.close()


@pytest.mark.parametrize("name", SERVERS)
def test_a_stream_ends_with_the_server(name: str, site: Site) -> None:
    """SIGTERM ends a stream that waits for its task, with the time after which to come back, and then the server."""
    with serving(name, site) as server:
        url = f"http://127.0.0.1:{server.port}/api/v1/sse/projects/{uuid4().hex}/stages/rewrite/"
        with running(["curl", "-sN", url]) as curl:
            wait_until(lambda: '"connected"' in curl.output, SECONDS)
            server.send(signal.SIGTERM)
            assert curl.exit_code(SECONDS) == 0
            assert re.fullmatch(r"retry: \d+", curl.output.strip().splitlines()[-1])
        server.exit_code(SECONDS)
        assert "Traceback" not in server.output
        # Only uvicorn runs the lifespan, which opens and closes; under the others the first request opened.
        assert ("Application shutdown complete" in server.output) == (name == "uvicorn")


def test_the_shell_of_manage_py_knows_the_bus(site: Site) -> None:
    """A process of Django's that is neither a server nor a worker reads the settings too."""
    code = "from stagecast.entrypoints.configuration import bus_url; print(bus_url())"
    environment = {**os.environ, **site.given}
    shell = subprocess.run([*MANAGE, "shell", "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert shell.stdout.strip().splitlines()[-1:] == [site.redis_url], shell.stderr
