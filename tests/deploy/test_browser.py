"""A real Chromium before the shipped nginx: streams over one HTTP/2 connection, and servers that come and go."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from stagecast import RedisStreamPublisher
from tests.deploy.nginx import Nginx, running_nginx
from tests.deploy.programs import serve_at
from tests.reading import rebuilt
from tests.servers import RedisServer, free_port
from tests.sse.browser import project_path, stage_path
from tests.sse.serving import Served, served
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

SECONDS = 20.0
STAGES = [f"stage-{number}" for number in range(7)]
WITHOUT_HTTP2 = {" ssl http2;": " ssl;"}

_SCRIPT = """
window.streams = {};
window.follow = (name, url) => {
  const source = new EventSource(url), stream = { source, opened: 0, messages: [] };
  source.onopen = () => { stream.opened += 1; };
  source.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "stream_end") source.close();
    stream.messages.push(message);
  };
  streams[name] = stream;
};
window.has = (name, type) => streams[name].messages.some((message) => message.type === type);
window.texts = (name) => streams[name].messages.map((message) => message.content ?? "").join("");
"""


class Tab:
    """A page that follows streams by EventSource, named by whoever asks for them."""

    def __init__(self, page: Page, url: str) -> None:
        self._page = page
        page.add_init_script(_SCRIPT)
        page.goto(url)

    def follow(self, name: str, url: str) -> None:
        self._page.evaluate("([name, url]) => follow(name, url)", [name, url])

    def wait_for(self, expression: str) -> None:
        self._page.wait_for_function(expression, timeout=SECONDS * 1000)

    def wait_for_message(self, name: str, kind: str) -> None:
        self.wait_for(f"has('{name}', '{kind}')")

    def wait_for_text(self, name: str, end: str) -> None:
        self.wait_for(f"texts('{name}').endsWith('{end}')")

    def see(self, expression: str) -> Any:
        return self._page.evaluate(expression)

    def messages(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.see(f"streams['{name}'].messages")
        return found


@pytest.fixture
def tab(chromium: Browser, nginx: Nginx) -> Iterator[Tab]:
    """A page of nginx's own origin (its 404; the content does not matter)."""
    with chromium.new_context(ignore_https_errors=True) as context:
        yield Tab(context.new_page(), f"{nginx.url}/")


@pytest.fixture(scope="module")
def origin() -> Iterator[Served]:
    """Another origin, whose pages may read the streams."""
    app = Starlette(routes=[Route("/", lambda _: HTMLResponse("<!doctype html><title>elsewhere</title>"))])
    with served(app, lifespan="off") as server:
        yield server


@pytest.fixture(scope="module")
def ports() -> list[int]:
    """Of two servers; a test starts them, or one of them."""
    return [free_port(), free_port()]


@pytest.fixture(scope="module")
def nginx(ports: list[int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with running_nginx(tmp_path_factory.mktemp("nginx") / "nginx", ports) as server:
        yield server


def write(bus: str, project: str, stage: str, *tokens: str) -> RedisStreamPublisher:
    publisher = RedisStreamPublisher(project, stage, bus=bus)
    for token in tokens:
        publisher.publish_token(token)
    publisher.flush()
    return publisher


def test_seven_streams_at_once(tab: Tab, nginx: Nginx, ports: list[int], any_redis: RedisServer, project: str) -> None:
    """R129: HTTP/2 carries more streams of a site than a browser has connections; a project's stream carries all."""
    with serve_at(ports[0], any_redis.url), ExitStack() as stack:
        for stage in STAGES:
            tab.follow(stage, stage_path(project, stage))
            tab.wait_for_message(stage, "connected")
        tab.follow("all", project_path(project))
        tab.wait_for_message("all", "connected")
        for stage in STAGES:
            publisher = stack.enter_context(write(any_redis.url, project, stage, f"{stage} "))
            tab.wait_for_text(stage, f"{stage} ")
            tab.wait_for_text("all", f"{stage} ")
            assert publisher.publish_done()
            tab.wait_for_message(stage, "stream_end")
        assert tab.see("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
        assert tab.see("Object.values(streams).map((stream) => stream.opened)") == [1] * 8


def test_with_http1_the_seventh_waits_for_an_end(
    chromium: Browser, ports: list[int], any_redis: RedisServer, project: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """R129: without HTTP/2 a browser opens six; a stage that is done gives its connection to the next at once."""
    folder = tmp_path_factory.mktemp("nginx") / "http1"
    with serve_at(ports[0], any_redis.url), running_nginx(folder, ports[:1], WITHOUT_HTTP2) as nginx:
        with chromium.new_context(ignore_https_errors=True) as context, ExitStack() as stack:
            tab = Tab(context.new_page(), f"{nginx.url}/")
            for stage in STAGES:
                tab.follow(stage, stage_path(project, stage))
            tab.wait_for("Object.values(streams).filter((stream) => stream.messages.length).length === 6")
            waiting = tab.see("Object.keys(streams).find((name) => !streams[name].messages.length)")
            first = next(stage for stage in STAGES if stage != waiting)
            publisher = stack.enter_context(write(any_redis.url, project, first, "one "))
            tab.wait_for_text(first, "one ")
            assert tab.messages(waiting) == []
            assert publisher.publish_done()
            tab.wait_for_message(waiting, "connected")


def test_a_rolling_restart_of_two_servers(
    tab: Tab, nginx: Nginx, ports: list[int], any_redis: RedisServer, project: str
) -> None:
    """R34: one server after the other is replaced while two tasks write: each viewer has each token once."""
    stages = STAGES[:2]
    with ExitStack() as stack:
        servers = [stack.enter_context(serve_at(port, any_redis.url)) for port in ports]
        publishers = [stack.enter_context(write(any_redis.url, project, stage, "begin ")) for stage in stages]
        viewers = {f"{stage} {number}": stage for stage in stages for number in range(3)}
        for name, stage in viewers.items():
            tab.follow(name, stage_path(project, stage))
            tab.wait_for_text(name, "begin ")
        for turn, server in enumerate(servers):
            server.process.send_signal(signal.SIGTERM)
            for publisher in publishers:
                publisher.publish_token(f"away-{turn} ")
            server.exit_code(10)
            for name in viewers:
                tab.wait_for_text(name, f"away-{turn} ")
            stack.enter_context(serve_at(ports[turn], any_redis.url))
            for publisher in publishers:
                publisher.publish_token(f"back-{turn} ")
        for publisher in publishers:
            assert publisher.publish_done()
        for name in viewers:
            tab.wait_for_message(name, "stream_end")
            messages = tab.messages(name)
            assert rebuilt(messages) == "begin away-0 back-0 away-1 back-1 "
            assert "reset" not in {message["type"] for message in messages}
        opened = tab.see("Object.values(streams).map((stream) => stream.opened)")
        assert sum(opened) >= 2 * len(viewers), "each was sent to the other server at least once"
        assert sum(opened) <= 3 * len(viewers), "nobody was asked to come back while one server was there"
        assert '" 200 13 bytes' not in nginx.access_log


def test_all_servers_are_away_for_a_while(
    chromium: Browser,
    tab: Tab,
    nginx: Nginx,
    origin: Served,
    ports: list[int],
    any_redis: RedisServer,
    project: str,
    tmp_path: Path,
) -> None:
    """R34, R135: killed servers end no EventSource, on pages of other origins neither; afterwards the rest comes."""
    elsewhere = f"http://127.0.0.1:{origin.port}"
    (tmp_path / "stagecast.toml").write_text(f'[stagecast.cors]\norigins = ["{elsewhere}"]\n')
    allowed = {"STAGECAST_CONFIG": str(tmp_path / "stagecast.toml")}
    with chromium.new_context(ignore_https_errors=True) as context:
        tabs = [tab, Tab(context.new_page(), elsewhere)]
        with serve_at(ports[0], any_redis.url, allowed):
            publisher = write(any_redis.url, project, "rewrite", "before ")
            for one in tabs:
                one.follow("it", nginx.url + stage_path(project))
                one.wait_for_text("it", "before ")
        # The block's end has killed the server.
        publisher.publish_token("meanwhile ")
        publisher.flush()
        for one in tabs:
            one.see("streams.it.before = streams.it.opened")
        for one in tabs:
            one.wait_for("streams.it.opened > streams.it.before")  # nginx has asked it to come back
        wait_until(lambda: nginx.access_log.count(f'{stage_path(project)} HTTP/2.0" 200 13 bytes') >= 2)
        with serve_at(ports[1], any_redis.url, allowed), publisher:
            for one in tabs:
                one.wait_for_text("it", "meanwhile ")
            assert publisher.publish_done()
            for one in tabs:
                one.wait_for_message("it", "stream_end")
                assert rebuilt(one.messages("it")) == "before meanwhile "
