"""A real Chromium, and a demo in each of its modes."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, sync_playwright

from tests.browser.page import DemoPage
from tests.demo import Demo, demo_in_memory, demo_process
from tests.servers import RedisServer

CHROMIUM = "/usr/bin/chromium"
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PACE = 30
"""Tokens a second: slow enough that a page can be reloaded in mid-stream."""
PICTURE_PAUSE = 0.3


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for a module's tests: Playwright's loop runs in this thread and would be in the way of others'."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(params=["memory", "redis"])
def demo(request: pytest.FixtureRequest) -> Iterator[Demo]:
    """A running demo: in this process, and with Redis, a Celery worker and a web server of their own."""
    if request.param == "memory":
        with demo_in_memory(pace=PACE, picture_pause=PICTURE_PAUSE) as running:
            yield running
        return
    server: RedisServer = request.getfixturevalue("any_redis")
    environ = {**os.environ, "REDIS_URL": server.url, "STAGECAST_DEMO_PACE": str(PACE)}
    with demo_process("--redis", "--port", "0", environ=environ) as process:
        yield Demo(process.url(), server.url)


@pytest.fixture
def page(chromium: Browser, demo: Demo) -> Iterator[DemoPage]:
    """The demo's page, open and connected. The test fails where the page meets an error, CSP included."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    errors: list[str] = []
    _collect_errors(tab, errors)
    opened = DemoPage(tab, demo.url)
    opened.open()
    yield opened
    context.close()
    assert [error for error in errors if not any(part in error for part in opened.expected_errors)] == []


def _collect_errors(tab: Page, errors: list[str]) -> None:
    def on_console(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            errors.append(message.text)

    def on_error(error: Error) -> None:
        errors.append(str(error))

    tab.on("console", on_console)
    tab.on("pageerror", on_error)
