"""Fixtures of the security tests: a real Chromium, the demo, and an origin that is not the streams'."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.conftest import CHROMIUM, OPTIONS
from tests.demo import Demo, demo_in_memory
from tests.security.browsing import create_pages
from tests.sse.serving import Served, served


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    with demo_in_memory() as running:
        yield running


@pytest.fixture(scope="module")
def pages() -> Iterator[Served]:
    with served(create_pages()) as server:
        yield server
