"""Pages of other origins: which may read a guarded stream, and that none has the demo's page in a frame."""

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.access import Access, AccessRequest
from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import Unauthenticated
from stagecast.entrypoints.sse import CorsSettings, create_app
from stagecast.entrypoints.wiring import CODEC
from tests.demo import Demo
from tests.security.browsing import SECONDS, create_pages, url_of
from tests.sse.serving import Served, served


class OneToken:
    """A policy with one token."""

    async def authorize(self, request: AccessRequest) -> Access:
        if request.token != "good":
            raise Unauthenticated("the token is not valid")
        return Access(principal="me")


@pytest.fixture(scope="module")
def stranger() -> Iterator[Served]:
    """The same pages on another port, which is another origin."""
    with served(create_pages()) as server:
        yield server


@pytest.fixture(params=["listed", "any"])
def streams(request: pytest.FixtureRequest, pages: Served) -> Iterator[Served]:
    """A server with a policy, whose streams pages of one origin may read, or of any."""
    origins = {url_of(pages)} if request.param == "listed" else {"*"}
    cors = CorsSettings(origins=origins, credentials=request.param == "listed")
    with served(create_app(MemoryBus(CODEC, BusLimits()), OneToken(), cors=cors)) as server:
        yield server


@pytest.mark.browser
@pytest.mark.timeout(90)
@pytest.mark.parametrize("place", ["listed", "other", "sandboxed"])
def test_which_pages_may_read_a_guarded_stream_by_fetch(
    chromium: Browser, streams: Served, pages: Served, stranger: Served, place: str, request: pytest.FixtureRequest
) -> None:
    """A page that fetches with a token of its own asks by a preflight; one without a name, `null`, never may."""
    is_open = request.node.callspec.params["streams"] == "any"
    at = url_of(stranger if place == "other" else pages) + ("/framing" if place == "sandboxed" else "/reader")
    context = chromium.new_context()
    tab = context.new_page()
    tab.goto(f"{at}?{urlencode({'url': f'{url_of(streams)}/api/v1/sse/projects/p/stream/'})}")
    tab.wait_for_function("window.result !== null && window.result !== undefined", timeout=SECONDS * 1000)
    result = tab.evaluate("window.result")
    if place == "sandboxed":
        assert tab.evaluate("window.from") == "null"
    context.close()
    if place == "listed" or (place == "other" and is_open):
        assert result[0] == 200
        assert '"type":"connected"' in result[1]
    else:
        assert "Failed to fetch" in result


@pytest.mark.browser
@pytest.mark.timeout(90)
def test_no_other_page_has_the_demo_in_a_frame(chromium: Browser, demo: Demo, pages: Served) -> None:
    """Nobody clicks its buttons through a page that lies over it; a page without that policy can be framed."""
    for framed, is_shown in ((demo.url, False), (f"{url_of(pages)}/moved/?server={url_of(pages)}", True)):
        context = chromium.new_context()
        tab = context.new_page()
        tab.goto(f"{url_of(pages)}/framed?{urlencode({'url': framed})}")
        tab.wait_for_load_state("networkidle")
        inner = tab.frames[1]
        assert (inner.url == framed) is is_shown
        assert (inner.locator("#pipeline, #run").count() > 0) is is_shown
        context.close()
