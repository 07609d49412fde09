"""Fixtures of the security tests: a real Chromium, the demo, an origin that is not the streams', servers to attack."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.adapters.test_jwt_jwks import entry
from tests.adapters.test_jwt_keys import OTHER_RSA, RSA
from tests.browser.conftest import CHROMIUM, OPTIONS
from tests.demo import Demo, demo_in_memory
from tests.security.attacks import World, opened_world
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


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """What attempts are made on; at the end, those who were watching all the while must have everything."""
    jwks = tmp_path_factory.mktemp("attacks") / "jwks.json"
    jwks.write_text(json.dumps({"keys": [entry(RSA, "first"), entry(OTHER_RSA, "second")]}))
    with opened_world(str(jwks)) as opened:
        yield opened
