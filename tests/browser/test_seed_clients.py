"""The browser clients that exist already, unchanged, on pages of another origin than the server's."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from playwright.sync_api import Browser

from stagecast import RedisStreamPublisher
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.entrypoints.sse import CorsSettings, EdgeSettings, create_app
from stagecast.entrypoints.wiring import CODEC
from tests.browser.origin import create_origin
from tests.reading import rebuilt, told
from tests.sse.serving import Served, served

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

SECONDS = 15.0
PIECES = [
    "这是",
    "一段",
    "流式生成的文本 🚀",
    "👩‍",
    "🚀 and plain text",
    "，\n第二行\r\n",
    "<b>不是标记</b>",
    "\U0001f9d1\U0001f3fd。",
]
TEXT = "".join(PIECES)
USED = {"tokens_used": 1000, "latency_ms": 2500}


def url_of(server: Served) -> str:
    return f"http://127.0.0.1:{server.port}"


class Client:
    """A page with a client on it, in a tab of its own."""

    def __init__(self, browser: Browser, origin: Served, kind: str, server: Served, **query: str) -> None:
        self._context = browser.new_context()
        self._tab = self._context.new_page()
        self.console: list[str] = []
        self._tab.on("console", lambda message: self.console.append(message.text))
        self._tab.on("pageerror", lambda error: self.console.append(f"uncaught: {error}"))
        self._tab.goto(f"{url_of(origin)}/{kind}?{urlencode({'server': url_of(server), **query})}")

    def wait_for(self, expression: str) -> None:
        self._tab.wait_for_function(expression, timeout=SECONDS * 1000)

    def wait_for_message(self, kind: str) -> None:
        self.wait_for(f"seen.some((message) => message.type === '{kind}')")

    def wait_until_closed(self) -> list[dict[str, Any]]:
        """The messages until the client closed its connection, which no error of the connection made it do."""
        self.wait_for("isClosed()")
        assert self.see("failures") == 0, self.console
        messages: list[dict[str, Any]] = self.see("seen")
        return messages

    def see(self, expression: str) -> Any:
        return self._tab.evaluate(expression)

    def close(self) -> None:
        self._context.close()


Opener: TypeAlias = Callable[..., Client]


@pytest.fixture(scope="module")
def origin() -> Iterator[Served]:
    with served(create_origin()) as server:
        yield server


@pytest.fixture(scope="module")
def bus() -> MemoryBus:
    return MemoryBus(CODEC, BusLimits())


@pytest.fixture(scope="module")
def edge(origin: Served, bus: MemoryBus) -> Iterator[Served]:
    """A server whose streams the pages of `origin` may read."""
    with served(create_app(bus, cors=CorsSettings(origins=[url_of(origin)]))) as server:
        yield server


@pytest.fixture(scope="module")
def hasty_edge(origin: Served, bus: MemoryBus) -> Iterator[Served]:
    """One that soon ends a stream on which nothing happens."""
    settings = EdgeSettings(stage_idle=0.2, project_idle=0.2, heartbeat=0.05)
    with served(create_app(bus, settings=settings, cors=CorsSettings(origins=[url_of(origin)]))) as server:
        yield server


@pytest.fixture
def project() -> str:
    return f"p-{uuid4().hex[:12]}"


@pytest.fixture
def open_client(chromium: Browser, origin: Served, project: str) -> Iterator[Opener]:
    """Opens a page on the test's project."""
    opened: list[Client] = []

    def open_(kind: str, server: Served, *, at: Served = origin, **query: str) -> Client:
        opened.append(Client(chromium, at, kind, server, project=project, **query))
        return opened[-1]

    yield open_
    for client in opened:
        client.close()


def write(publisher: RedisStreamPublisher, progress: int | None = 0) -> None:
    """A stage's text, as tasks publish it."""
    publisher.publish_stage_update(status="processing", progress=progress)
    text = ""
    for piece in PIECES:
        text += piece
        publisher.publish_token(content=piece, full_text=text)


def types(messages: list[dict[str, Any]]) -> set[str]:
    return {message["type"] for message in messages}


def test_the_seeds_client_follows_a_stage(open_client: Opener, edge: Served, bus: MemoryBus, project: str) -> None:
    """connected, stage_update, token, progress and done, each in its branch; `done` closes the connection."""
    page = open_client("seed", edge)
    page.wait_for_message("connected")
    with RedisStreamPublisher(project, "rewrite", bus=bus) as publisher:
        write(publisher)
        publisher.publish_progress(3, 10, item_name="分镜3")
        publisher.publish_stage_update(status="processing", progress=50, message="正在生成文案...")
        page.wait_for("percents.includes(50)")
        assert publisher.publish_done(full_text=TEXT, metadata=USED)
    messages = page.wait_until_closed()
    assert rebuilt(messages) == TEXT
    assert told(messages) == ["connected", "processing", "token", "progress", "processing", "done"]
    assert messages[-1]["full_text"] == TEXT
    assert messages[-1]["metadata"] == USED
    assert page.see("shown.at(-1)") == TEXT
    assert page.see("percents") == [0, 50]
    said = [line for line in page.console if not line.startswith("Token:")]
    assert said == ["SSE连接已建立", "进度: 0%", "处理进度: 3/10", "进度: 50%", f"生成完成: {TEXT}"]
    assert len(page.console) - len(said) == sum(message["type"] == "token" for message in messages)


@pytest.mark.parametrize("ending", ["done", "error", "stream_end"])
def test_the_documents_client(
    open_client: Opener, edge: Served, hasty_edge: Served, bus: MemoryBus, project: str, ending: str
) -> None:
    """The client of README.zh-CN.md shows the text and the percentage, and each end closes it."""
    page = open_client("document", hasty_edge if ending == "stream_end" else edge)
    if ending != "stream_end":
        page.wait_for_message("connected")
        with RedisStreamPublisher(project, "rewrite", bus=bus) as publisher:
            write(publisher)
            publisher.publish_progress(3, 10, item_name="分镜3")
            assert publisher.publish_done(full_text=TEXT) if ending == "done" else publisher.publish_error("超时")
    messages = page.wait_until_closed()
    assert messages[-1]["type"] == ending
    assert rebuilt(messages) == ("" if ending == "stream_end" else TEXT)
    assert page.see("shown.at(-1) ?? ''") == rebuilt(messages)
    assert page.see("percents") == ([] if ending == "stream_end" else [0])


@pytest.mark.parametrize("ending", ["done", "error", "stream_end"])
def test_the_readmes_client(
    open_client: Opener, edge: Served, hasty_edge: Served, bus: MemoryBus, project: str, ending: str
) -> None:
    """The client of README.md: an update without a percentage leaves the bar, and each end closes it."""
    page = open_client("readme", hasty_edge if ending == "stream_end" else edge)
    if ending != "stream_end":
        page.wait_for_message("connected")
        with RedisStreamPublisher(project, "rewrite", bus=bus) as publisher:
            publisher.publish_stage_update("processing", progress=40)
            publisher.publish_stage_update("processing", message="...")
            write(publisher, progress=None)
            assert publisher.publish_done(full_text=TEXT) if ending == "done" else publisher.publish_error("超时")
    messages = page.wait_until_closed()
    assert messages[-1]["type"] == ending
    assert page.see("output.textContent") == rebuilt(messages) == ("" if ending == "stream_end" else TEXT)
    assert page.see("bar.value") == (0 if ending == "stream_end" else 40)


def test_the_seeds_client_is_told_of_an_error(open_client: Opener, edge: Served, bus: MemoryBus, project: str) -> None:
    """`error` closes the connection, and the text so far was shown."""
    page = open_client("seed", edge)
    page.wait_for_message("connected")
    with RedisStreamPublisher(project, "rewrite", bus=bus) as publisher:
        write(publisher)
        page.wait_for(f"shown.at(-1)?.length === {len(TEXT.encode('utf-16-le')) // 2}")
        assert publisher.publish_error(error="API调用失败: 超时", retry_count=1)
    messages = page.wait_until_closed()
    assert rebuilt(messages) == TEXT
    assert (messages[-1]["type"], messages[-1]["error"], messages[-1]["retry_count"]) == (
        "error",
        "API调用失败: 超时",
        1,
    )
    assert page.console[-1] == "错误: API调用失败: 超时"


def test_the_seeds_client_is_told_of_the_streams_end(open_client: Opener, hasty_edge: Served, project: str) -> None:
    """`stream_end` on a stage where nothing happens closes the connection."""
    page = open_client("seed", hasty_edge)
    assert told(page.wait_until_closed()) == ["connected", "stream_end"]
    assert page.console == ["SSE连接已建立", "SSE流已关闭"]


def test_a_page_of_another_origin_gets_nothing(open_client: Opener, edge: Served) -> None:
    """The browser keeps the stream from it: the tests above have really used CORS."""
    with served(create_origin()) as foreign:
        page = open_client("seed", edge, at=foreign)
        page.wait_for("isClosed() && failures > 0")
        assert page.see("seen") == []
        assert any("CORS policy" in line for line in page.console), page.console
        page.close()


def test_the_later_client_on_a_stage(open_client: Opener, edge: Served, bus: MemoryBus, project: str) -> None:
    """Items are news; `done` is the end, before the `stage_completed` that follows it."""
    page = open_client("later", edge, stage="rewrite")
    page.wait_for_message("connected")
    with RedisStreamPublisher(project, "rewrite", bus=bus) as publisher:
        write(publisher)
        publisher.publish_progress(1, 3)
        publisher.publish_item_completed("image", 1, {"url": "https://example.com/图.png"})
        publisher.publish_done(TEXT, USED)
        publisher.publish_stage_completed(USED)
    messages = page.wait_until_closed()
    assert told(messages) == ["connected", "processing", "token", "progress", "item_completed", "done"]
    assert rebuilt(messages) == TEXT
    assert page.see("shown.at(-1)") == TEXT
    assert page.see("percents") == [33]


def test_the_later_client_on_a_stage_that_fails(
    open_client: Opener, edge: Served, bus: MemoryBus, project: str
) -> None:
    """There `error` is the end."""
    page = open_client("later", edge, stage="rewrite")
    page.wait_for_message("connected")
    with RedisStreamPublisher(project, "rewrite", bus=bus) as publisher:
        write(publisher)
        publisher.publish_error("超时", retry_count=3)
    messages = page.wait_until_closed()
    assert told(messages) == ["connected", "processing", "token", "error"]
    assert rebuilt(messages) == TEXT


def test_the_later_client_on_a_project(open_client: Opener, edge: Served, bus: MemoryBus, project: str) -> None:
    """An `error` of one stage is news there: the client sees its retry, the other stages, and `pipeline_done`."""
    page = open_client("later", edge)
    page.wait_for_message("connected")
    with RedisStreamPublisher(project, "rewrite", bus=bus) as publisher:
        write(publisher)
        publisher.publish_error("超时", retry_count=0)
    page.wait_for_message("error")
    assert not page.see("isClosed()")
    with RedisStreamPublisher(project, "rewrite", bus=bus) as publisher:
        write(publisher)
        publisher.publish_done(TEXT, USED)
        publisher.publish_stage_completed(USED)
    with RedisStreamPublisher(project, "storyboard", bus=bus) as publisher:
        publisher.publish_stage_update(status="skipped", progress=100)
    with RedisStreamPublisher(project, "pipeline", bus=bus) as publisher:
        publisher.publish_done(metadata={"stages": 2})
        publisher.publish_pipeline_done({"stages": 2})
    messages = page.wait_until_closed()
    assert {"error", "done", "stage_completed", "pipeline_done"} <= types(messages)
    assert messages[-1]["type"] == "pipeline_done"
    error = next(index for index, message in enumerate(messages) if message["type"] == "error")
    of_rewrite = [message for message in messages if message.get("stage") == "rewrite"]
    assert rebuilt(of_rewrite) == TEXT
    assert rebuilt(messages[:error]) == TEXT
    assert [message["status"] for message in messages if message.get("stage") == "storyboard"] == ["skipped"]


def test_the_later_client_on_a_project_that_fails(
    open_client: Opener, edge: Served, bus: MemoryBus, project: str
) -> None:
    """`pipeline_error` is the end."""
    page = open_client("later", edge)
    page.wait_for_message("connected")
    with RedisStreamPublisher(project, "rewrite", bus=bus) as publisher:
        write(publisher)
        publisher.publish_error("超时")
    with RedisStreamPublisher(project, "pipeline", bus=bus) as publisher:
        publisher.publish_pipeline_error("rewrite: 超时", {"stage": "rewrite"})
    messages = page.wait_until_closed()
    assert told(messages) == ["connected", "processing", "token", "error", "pipeline_error"]
    assert messages[-1]["error"] == "rewrite: 超时"


@pytest.mark.parametrize("stage", [{"stage": "rewrite"}, {}], ids=["stage", "project"])
def test_the_later_client_is_told_of_the_streams_end(
    open_client: Opener, hasty_edge: Served, stage: dict[str, str]
) -> None:
    """`stream_end` closes it on both routes."""
    assert told(open_client("later", hasty_edge, **stage).wait_until_closed()) == ["connected", "stream_end"]
