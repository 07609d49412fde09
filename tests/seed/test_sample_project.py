"""A project of the seed's users moves by its import lines alone: it runs for real, before and after."""

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from celery import Celery
from playwright.sync_api import sync_playwright
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from tests.browser.conftest import CHROMIUM, OPTIONS
from tests.reading import rebuilt, told
from tests.seed import core_redis
from tests.servers import RedisServer, available_redis_kinds, start_redis
from tests.sse.programs import SERVE, Program, running
from tests.sse.serving import served
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "examples" / "moving-from-core-redis"
WORKER = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-Q", "llm", "-l", "info", "--concurrency", "1"]
WORKER += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
TEXT = "从前有一座山，山里有一座庙 🏯。"
BROKEN = "API调用失败: 超时"
SECONDS = 30.0
INHERITED = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
RETRIED, HOPELESS = "改写；失败1次", "改写；失败2次"
SHOWN = """
  Object.fromEntries([...document.querySelectorAll('section')].map((section) => [
    section.dataset.stage,
    [...section.querySelectorAll('.state, .text, .items')].map((part) => part.textContent),
  ]))
"""
"""What the page shows of each stage."""

Message = dict[str, Any]


@define(eq=False)
class Site:
    """The project in a folder, its running worker, and Redis."""

    folder: Path
    redis: RedisServer
    given: dict[str, str]

    def run(self, project: str, prompt: str) -> None:
        """Start a pipeline."""
        with Celery(broker=self.redis.url, set_as_current=False) as sender:
            sender.send_task("tasks.run_pipeline", (project, prompt), queue="llm")

    @contextmanager
    def monitor(self, project: str) -> Iterator[Program]:
        """The project's monitor, which listens."""
        with running([sys.executable, str(self.folder / "monitor.py"), project], self.given) as program:
            wait_until(lambda: "listening" in program.output or program.process.poll() is not None, SECONDS)
            yield program

    def monitored(self, project: str, prompt: str) -> list[Message]:
        """What the monitor says of a pipeline, until it ends by itself."""
        with self.monitor(project) as monitor:
            if self.folder != PROJECT:
                self._wait_for_subscription(project)
            self.run(project, prompt)
            assert monitor.exit_code(SECONDS) == 0, monitor.output
            return [json.loads(line) for line in monitor.lines[1:]]

    def _wait_for_subscription(self, project: str) -> None:
        """core.redis subscribes only when it is asked for a message, after it has said that it listens."""
        own = {"name": core_redis.channel_of(project, "*"), "psub": "1"}
        with self.redis.client() as client:
            wait_until(lambda: any(own.items() <= found.items() for found in client.client_list()), SECONDS)


@contextmanager
def working(folder: Path) -> Iterator[Site]:
    """The project with a real Redis and a worker of the queue `llm`."""
    with start_redis(available_redis_kinds()[0]) as redis_server:
        given = {"CELERY_BROKER_URL": redis_server.url, "PYTHONPATH": os.pathsep.join([str(folder), *INHERITED])}
        with running(WORKER, given) as worker:
            try:
                wait_until(lambda: " ready." in worker.output or worker.process.poll() is not None, SECONDS)
                assert worker.process.poll() is None, worker.output
                yield Site(folder, redis_server, given)
            finally:
                worker.process.send_signal(signal.SIGTERM)
                worker.exit_code(SECONDS)


@pytest.fixture(scope="module")
def moved() -> Iterator[Site]:
    """The example as it is."""
    with working(PROJECT) as site:
        yield site


def as_before(folder: Path) -> dict[str, list[str]]:
    """Copy the project there with its old import lines and a `core.redis`; the lines that name stagecast, by file."""
    changed = {}
    for source in sorted(PROJECT.glob("*.*")):
        if source.suffix == ".md":
            continue
        text = source.read_text("utf-8")
        if naming := [line for line in text.splitlines() if re.search(r"\bstagecast\b", line)]:
            changed[source.name] = naming
        (folder / source.name).write_text(re.sub(r"^from stagecast import", "from core.redis import", text, flags=re.M))
    (folder / "core").mkdir()
    (folder / "core" / "__init__.py").touch()
    shutil.copy(Path(__file__).with_name("core_redis.py"), folder / "core" / "redis.py")
    return changed


def gist(messages: list[Message]) -> list[Message]:
    """The messages without what only stagecast or only a moment has; tokens in a row as the text that they make."""
    plain = [
        {name: value for name, value in message.items() if name not in {"id", "timestamp"}}
        for message in messages
        if message["type"] != "reset"
    ]
    found: list[Message] = []
    for kind, group in groupby(plain, key=lambda message: message["type"]):
        row = list(group)
        found += [{**row[-1], "content": rebuilt(row)}] if kind == "token" else row
    return found


def streamed(curl: Program) -> list[Message]:
    """What curl received, until the server ended the stream."""
    assert curl.exit_code(SECONDS) == 0, curl.output
    return [json.loads(line.removeprefix("data: ")) for line in curl.lines if line.startswith("data: ")]


def test_only_the_import_lines_differ(tmp_path: Path) -> None:
    """Two files name stagecast, each in one line, as the project's page says."""
    lines = {
        "monitor.py": ["from stagecast import RedisStreamSubscriber"],
        "tasks.py": ["from stagecast import RedisStreamPublisher"],
    }
    assert as_before(tmp_path) == lines
    page = (PROJECT / "README.md").read_text("utf-8")
    for name, (line,) in lines.items():
        before = line.replace("stagecast", "core.redis")
        assert f"--- {name}\n-{before}\n+{line}\n" in page
        assert before in (tmp_path / name).read_text("utf-8").splitlines()


def test_it_calls_everything_that_publishes() -> None:
    """Each of the publisher's methods stands in its tasks."""
    called = re.findall(r"publisher\.(publish\w*)\(", (PROJECT / "tasks.py").read_text("utf-8"))
    assert set(called) == {name for name in dir(core_redis.RedisStreamPublisher) if name.startswith("publish")}


def test_the_project_runs_as_on_core_redis(moved: Site, tmp_path: Path) -> None:
    """The monitor says the same of a pipeline with a retry, and of one that fails, message for message."""
    as_before(tmp_path)
    after = [moved.monitored("m-1", RETRIED), moved.monitored("m-2", HOPELESS)]
    with working(tmp_path) as original:
        before = [original.monitored("m-1", RETRIED), original.monitored("m-2", HOPELESS)]
    for old, new in zip(before, after, strict=True):
        assert gist(new) == gist(old)
        assert told(old)[-1] in {"pipeline_done", "pipeline_error"}


def test_its_viewers_see_everything(moved: Site) -> None:
    """All routes and the page, from connected to the end: an error, the retry's text, a skipped stage, pictures."""
    stages = ["rewrite", "storyboard", "image_generation", "pipeline"]
    files = Starlette(routes=[Mount("/", StaticFiles(directory=PROJECT, html=True))])
    with ExitStack() as stack:
        pages = f"http://127.0.0.1:{stack.enter_context(served(files)).port}"
        given = {**moved.given, "STAGECAST_CORS_ORIGINS": pages}
        server = f"http://127.0.0.1:{stack.enter_context(running(SERVE, given)).port}"
        route = f"{server}/api/v1/sse/projects/v-1/"
        urls = [route, *(f"{route}stages/{stage}/" for stage in stages)]
        curls = [stack.enter_context(running(["curl", "-sN", url])) for url in urls]
        for curl in curls:
            wait_until(lambda curl=curl: '"connected"' in curl.output, SECONDS)  # type: ignore[misc]
        browser = stack.enter_context(sync_playwright()).chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        tab = browser.new_page()
        tab.goto(f"{pages}/?project=v-1&server={server}")
        tab.wait_for_function("pipeline.textContent === '已连接'")
        moved.run("v-1", RETRIED)
        whole, *by_stage = map(streamed, curls)
        tab.wait_for_function("pipeline.textContent === '完成' && client.isClosed")
        shown = tab.evaluate(SHOWN)
        browser.close()
    half = TEXT[: len(TEXT) // 2]
    first = [message["type"] for message in whole].index("error")
    of_rewrite = [message for message in whole if message.get("stage") == "rewrite" or message["type"] == "reset"]
    assert rebuilt(whole[:first]) == half
    assert (whole[first]["error"], whole[first]["retry_count"]) == (BROKEN, 0)
    assert rebuilt(of_rewrite) == TEXT
    assert [message["type"] for message in whole[-2:]] == ["pipeline_done", "stream_end"]
    rewrite, storyboard, images, pipeline = by_stage
    assert told(rewrite) == ["connected", "processing", "token", "error", "stream_end"]
    assert told(storyboard) == ["connected", "skipped", "stream_end"]
    items = ["item_completed", "progress"] * 3
    assert told(images) == ["connected", "processing", *items, "done", "stream_end"]
    assert [message.get("progress") for message in images if message["type"] == "progress"] == [33, 66, 100]
    assert told(pipeline) == ["connected", "processing", "canvas_opened", "done", "stream_end"]
    assert shown["rewrite"] == ["done", TEXT, ""]
    assert shown["storyboard"] == ["skipped", "", ""]
    assert shown["image_generation"][0] == "done"
    assert shown["image_generation"][2].count("🖼") == 3
