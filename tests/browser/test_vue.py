"""The Vue 3 component of the seed, unchanged, and the one of README.zh-CN.md, as Vite builds and serves them."""

import ast
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from playwright.sync_api import Browser

from stagecast import RedisStreamPublisher
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.entrypoints.sse import CorsSettings, EdgeSettings, create_app
from stagecast.entrypoints.wiring import CODEC
from tests.browser.origin import SEEDS_SERVER
from tests.browser.vite import EXAMPLE, PLACEHOLDER, build, create_origin, dev_server
from tests.reading import rebuilt, told
from tests.seed.documents import the_block
from tests.servers import RedisServer, free_port
from tests.sse.programs import SERVE, running
from tests.sse.serving import Served, served, viewers_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]  # the first test may have to run `npm ci`

HERE = Path(__file__).parent
PROJECT, STAGE = "123", "rewrite"
"""What the component has in its text."""
SECONDS = 15.0
PIECES = [
    "这是",
    "一段",
    "流式生成的文本 🚀",
    "👩‍",
    "🚀 and plain text",
    "，\n第二行",
    "<b>不是标记</b>",
    "{{ 1 + 1 }}。",
]
TEXT = "".join(PIECES)
EAVESDROPPER = """
  window.seen = []; window.sources = [];
  window.EventSource = class extends EventSource {
    constructor(...given) {
      super(...given);
      sources.push(this);
      this.addEventListener('message', (event) => seen.push(JSON.parse(event.data)));
    }
  };
"""
"""Notes what the page is told, before any of its scripts runs."""


class Tab:
    """The page in a tab of its own."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._context = browser.new_context()
        self._tab = self._context.new_page()
        self.console: list[str] = []
        self._tab.on("console", lambda message: self.console.append(message.text))
        self._tab.on("pageerror", lambda error: self.console.append(f"uncaught: {error}"))
        self._tab.add_init_script(EAVESDROPPER)
        self._tab.goto(url)

    def reload(self) -> None:
        self._tab.reload()

    def see(self, expression: str) -> Any:
        return self._tab.evaluate(expression)

    def wait_for(self, expression: str, seconds: float = SECONDS) -> None:
        self._tab.wait_for_function(expression, timeout=seconds * 1000)

    def wait_until_connected(self) -> None:
        self.wait_for("document.querySelector('.status')?.textContent === '已连接'")

    def wait_until_closed(self, seconds: float = SECONDS) -> list[dict[str, Any]]:
        """The messages until the component closed its one connection, and no longer says that it is connected."""
        self.wait_for("sources.at(-1)?.readyState === EventSource.CLOSED", seconds)
        self.wait_for("document.querySelector('.status') === null")
        assert self.see("sources.length") == 1
        messages: list[dict[str, Any]] = self.see("seen")
        return messages

    @property
    def text(self) -> str:
        """What the component shows."""
        return str(self.see("document.querySelector('.content').textContent"))

    @property
    def progress(self) -> str:
        return str(self.see("document.querySelector('.progress').textContent"))

    def close(self) -> None:
        self._context.close()


class Site:
    """Pages of one origin, and the server of another one whose streams they may read."""

    def __init__(self, pages: Served, edge: Served, bus: MemoryBus) -> None:
        self._pages, self._edge, self._bus = pages, edge, bus

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._pages.port}/"

    def publisher(self) -> RedisStreamPublisher:
        return RedisStreamPublisher(PROJECT, STAGE, bus=self._bus)

    def wait_until_deserted(self) -> None:
        """The server has no viewer any more."""
        wait_until(lambda: not viewers_of(self._edge, PROJECT))


def readmes_component() -> str:
    """The component of README.zh-CN.md, with a URL that reaches another origin as that page says."""
    component = the_block("vue").text
    assert component.count("`/api/v1/sse/") == 1
    return component.replace("`/api/v1/sse/", f"`{PLACEHOLDER}/api/v1/sse/")


@pytest.fixture(scope="module")
def seeds_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The example, built as it is."""
    with served(create_origin(build(tmp_path_factory.mktemp("seed")))) as pages:
        yield pages


@pytest.fixture(scope="module")
def readmes_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The example with the component of README.zh-CN.md."""
    with served(create_origin(build(tmp_path_factory.mktemp("readme"), readmes_component()))) as pages:
        yield pages


@pytest.fixture
def edge_settings() -> EdgeSettings:
    return EdgeSettings()


@pytest.fixture
def site(edge_settings: EdgeSettings, request: pytest.FixtureRequest) -> Iterator[Site]:
    """The seed's component (or, by parameter, another) and a server of its own, on which nothing has happened."""
    pages: Served = request.getfixturevalue(getattr(request, "param", "seeds_pages"))
    bus = MemoryBus(CODEC, BusLimits())
    cors = CorsSettings(origins=[f"http://127.0.0.1:{pages.port}"])
    with served(create_app(bus, settings=edge_settings, cors=cors)) as edge:
        pages.app.state.server = f"http://127.0.0.1:{edge.port}"  # type: ignore[attr-defined]
        yield Site(pages, edge, bus)


Opener: TypeAlias = Callable[[str], Tab]


@pytest.fixture
def open_tab(chromium: Browser) -> Iterator[Opener]:
    opened: list[Tab] = []

    def open_(url: str) -> Tab:
        opened.append(Tab(chromium, url))
        return opened[-1]

    yield open_
    for tab in opened:
        tab.close()


@pytest.fixture
def tab(open_tab: Opener, site: Site) -> Tab:
    """The page of `site`, connected."""
    opened = open_tab(site.url)
    opened.wait_until_connected()
    return opened


def write(publisher: RedisStreamPublisher, pieces: list[str]) -> None:
    for piece in pieces:
        publisher.publish_token(content=piece, full_text=publisher.text + piece)


def test_the_component_is_the_seeds() -> None:
    """Byte for byte, but for the server's URL."""
    seeds = (HERE / "seed_component.vue").read_bytes()
    assert seeds.count(SEEDS_SERVER.encode()) == 1
    url = f"${{import.meta.env.VITE_STAGECAST_URL ?? '{SEEDS_SERVER}'}}"
    assert (EXAMPLE / "src" / "App.vue").read_bytes() == seeds.replace(SEEDS_SERVER.encode(), url.encode())


def test_the_component_follows_a_stage(tab: Tab, site: Site) -> None:
    """connected, stage_update and token are shown, progress is passed over, `done` closes the connection."""
    assert (tab.progress, tab.text) == ("进度: 0%", "")
    with site.publisher() as publisher:
        publisher.publish_stage_update(status="processing", progress=50, message="正在生成文案...")
        tab.wait_for("document.querySelector('.progress').textContent === '进度: 50%'")
        write(publisher, PIECES)
        publisher.publish_progress(3, 10, item_name="分镜3")
        tab.wait_for("seen.some((message) => message.type === 'progress')")
        assert tab.text == TEXT
        assert tab.progress == "进度: 50%"
        tab.wait_until_connected()
        publisher.publish_stage_update(status="processing", progress=100)
        assert publisher.publish_done(full_text=TEXT, metadata={"tokens_used": 1000})
    messages = tab.wait_until_closed()
    assert told(messages) == ["connected", "processing", "token", "progress", "processing", "done"]
    assert rebuilt(messages) == TEXT
    assert (tab.progress, tab.text) == ("进度: 100%", TEXT)
    assert tab.console == ["完成"]
    site.wait_until_deserted()


def test_the_component_is_told_of_an_error(tab: Tab, site: Site) -> None:
    """`error` closes the connection, and the text so far stays."""
    with site.publisher() as publisher:
        write(publisher, PIECES)
        assert publisher.publish_error(error="API调用失败: 超时", retry_count=1)
    messages = tab.wait_until_closed()
    assert told(messages) == ["connected", "token", "error"]
    assert rebuilt(messages) == tab.text == TEXT
    assert tab.console == ["API调用失败: 超时"]
    site.wait_until_deserted()


@pytest.mark.parametrize("edge_settings", [EdgeSettings(stage_idle=0.2, heartbeat=0.05)])
def test_the_component_closes_with_the_stream(open_tab: Opener, site: Site) -> None:
    """It passes over `stream_end`, and closes with the connection that ends behind it."""
    tab = open_tab(site.url)
    assert told(tab.wait_until_closed()) == ["connected", "stream_end"]
    assert tab.console == []
    site.wait_until_deserted()


def test_a_reload_in_mid_stream_loses_nothing(tab: Tab, site: Site) -> None:
    """The new page shows the text so far and its progress at once, then the rest."""
    half = len(PIECES) // 2
    with site.publisher() as publisher:
        publisher.publish_stage_update(status="processing", progress=50)
        write(publisher, PIECES[:half])
        tab.wait_for("seen.filter((message) => message.type === 'token').length > 0")
        tab.reload()
        tab.wait_for(f"document.querySelector('.content')?.textContent === {json.dumps(''.join(PIECES[:half]))}")
        assert tab.progress == "进度: 50%"
        write(publisher, PIECES[half:])
        publisher.publish_done(full_text=TEXT)
    messages = tab.wait_until_closed()
    assert told(messages)[0] == "connected"
    assert rebuilt(messages) == tab.text == TEXT
    assert tab.console == ["完成"]


def test_the_example_as_its_page_says(open_tab: Opener, any_redis: RedisServer) -> None:
    """`stagecast serve`, `npm run dev` and publish.py work together, with a reload in mid-stream."""
    found = re.search(r"^TEXT = (.*)$", (EXAMPLE / "publish.py").read_text("utf-8"), re.M)
    assert found is not None
    text = ast.literal_eval(found[1])
    port, bus = free_port(), {"REDIS_URL": any_redis.url}
    with running(SERVE, {**bus, "STAGECAST_CORS_ORIGINS": f"http://localhost:{port}"}) as server:
        with dev_server(port, f"http://localhost:{server.port}") as url:
            assert url == f"http://localhost:{port}"
            tab = open_tab(url)
            tab.wait_until_connected()
            with running([sys.executable, str(EXAMPLE / "publish.py")], bus) as publishing:
                tab.wait_for("document.querySelector('.content').textContent.length > 3")
                tab.reload()
                messages = tab.wait_until_closed(30)
                assert publishing.exit_code(10) == 0, publishing.output
    assert rebuilt(messages) == tab.text == text
    assert messages[-1]["type"] == "done"
    assert tab.progress == "进度: 100%"


@pytest.mark.parametrize("site", ["readmes_pages"], indirect=True)
def test_the_readmes_component_keeps_its_text(tab: Tab, site: Site) -> None:
    """`done` may come without a text: what was shown stays."""
    with site.publisher() as publisher:
        write(publisher, PIECES)
        assert publisher.publish_done()
    messages = tab.wait_until_closed()
    assert messages[-1]["full_text"] == ""
    assert rebuilt(messages) == tab.text == TEXT


@pytest.mark.parametrize("site", ["readmes_pages"], indirect=True)
def test_the_readmes_component_follows_a_stage(tab: Tab, site: Site) -> None:
    """A status without a progress leaves the bar; `done` closes the connection."""
    with site.publisher() as publisher:
        publisher.publish_stage_update(status="processing", progress=50)
        publisher.publish_stage_update(status="processing", message="正在生成文案...")
        write(publisher, PIECES)
        assert publisher.publish_done(full_text=TEXT)
    messages = tab.wait_until_closed()
    assert told(messages) == ["connected", "processing", "processing", "token", "done"]
    assert rebuilt(messages) == tab.text == TEXT
    assert tab.progress == "进度: 50%"
    assert tab.console == []


@pytest.mark.parametrize(
    ("site", "edge_settings"),
    [("readmes_pages", EdgeSettings(stage_idle=0.2, heartbeat=0.05))],
    indirect=["site"],
)
def test_the_readmes_component_is_told_of_the_streams_end(open_tab: Opener, site: Site) -> None:
    """`stream_end` closes the connection before the browser would reconnect."""
    tab = open_tab(site.url)
    assert told(tab.wait_until_closed()) == ["connected", "stream_end"]
    site.wait_until_deserted()
