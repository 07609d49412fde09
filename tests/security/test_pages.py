"""Pages and clients: nothing of a stream becomes markup, and the demo's page runs nothing that is not its own."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser

from stagecast import RedisStreamPublisher
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.entrypoints.demo.pipeline import PIPELINE, PROJECT, STAGES
from stagecast.entrypoints.sse import CorsSettings, create_app
from stagecast.entrypoints.wiring import CODEC
from tests.demo import Demo
from tests.security.browsing import ROOT, Watched, url_of
from tests.sse.serving import Served, served

# What is shipped, as text.

MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\s*\.\s*write|v-html|srcdoc|DOMParser|createContextualFragment"
    r"|setHTMLUnsafe|dangerouslySetInnerHTML|\beval\s*\(|new\s+Function|javascript:"
)
"""What makes markup or code of text."""
SHIPPED = [
    path
    for folder in ("src", "examples", "deploy", "docs", "README.md", "README.zh-CN.md")
    for path in ([ROOT / folder] if (ROOT / folder).is_file() else sorted((ROOT / folder).rglob("*")))
    if path.suffix in {".js", ".mjs", ".ts", ".vue", ".html", ".svg", ".md"}
    if not {"node_modules", "dist"} & set(path.parts)
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_shipped_makes_markup_of_text(path: Path) -> None:
    """Pages, components, and the snippets of documents that users copy: text becomes text nodes and attributes."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        text = "\n".join(re.findall(r"^```(?:js|javascript|vue|html|ts)\b.*?^```$", text, re.MULTILINE | re.DOTALL))
    assert not MARKUP.findall(text)


@pytest.mark.parametrize(
    "planted",
    ["a.innerHTML = b", "x.insertAdjacentHTML('beforeend', t)", "document.write(t)", '<p v-html="t">', "eval(t)"],
)
def test_the_check_finds_what_it_looks_for(planted: str) -> None:
    """And it looks at the pages, the components and the snippets that there are."""
    assert MARKUP.search(planted)
    names = {path.name for path in SHIPPED}
    assert {"view.js", "page.html", "App.vue", "client.js", "page.js", "index.html", "README.md"} <= names


# In a browser.

EVIL = "https://evil.example"
MARKS = [
    f"<img src={EVIL}/x onerror=window.hacked=1>",
    "<img src=x onerror=alert(1)>",
    "</p></template></script><script>window.hacked=1</script>",
    f"<svg onload=window.hacked=1><image href={EVIL}/y /></svg>",
    f"<iframe src={EVIL}></iframe><base href={EVIL}>",
    f"javascript:window.hacked=1//<a href={EVIL}>a</a>",
    f'"><style>@import url({EVIL}/z);</style><form action={EVIL}>',
    "{{constructor.constructor('window.hacked=1')()}}",
    "__proto__",
    "\u202e gnp.exe \u2028 \0 \r\n<b onclick=alert(1)>b</b>",
]
HOSTILE = "\n".join(MARKS)
PICTURE = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9" onload="alert(1)"><script>window.hacked=1</script>'
    f'<image href="{EVIL}/i.png"/><style>@import url({EVIL}/s.css);</style><foreignObject>'
    f'<iframe xmlns="http://www.w3.org/1999/xhtml" src="{EVIL}"/></foreignObject><rect width="9" height="9"/></svg>'
)


def publish_hostile(bus: Any, project: str) -> None:
    """Every type of message with markup, script and URLs in each of its texts."""
    for stage in (*STAGES, PIPELINE, HOSTILE[:20].replace(":", "").replace("/", "").replace(" ", "")):
        with RedisStreamPublisher(project, stage, bus=bus) as publisher:
            publisher.publish_stage_update(HOSTILE if stage != STAGES[2] else "processing", 10, HOSTILE)
            for mark in MARKS:
                publisher.publish_token(f"{mark}\n")
            publisher.publish_progress(1, 2, HOSTILE)
            for number, mark in enumerate(MARKS):
                publisher.publish_item_completed(mark, number, {"caption": mark, "svg": PICTURE, "url": mark})
            publisher.publish({"type": HOSTILE, "stage": HOSTILE, "html": HOSTILE})
            if stage == STAGES[0]:
                publisher.publish_error(HOSTILE)
            elif stage != PIPELINE:
                publisher.publish_done(metadata={"tokens": HOSTILE, "latency_ms": HOSTILE, "images": HOSTILE})
    with RedisStreamPublisher(project, PIPELINE, bus=bus) as publisher:
        publisher.publish_pipeline_error(HOSTILE, {"stage": HOSTILE})


@pytest.fixture
def watched(chromium: Browser, demo: Demo) -> Iterator[Watched]:
    context = chromium.new_context()
    yield Watched(context, demo.url)
    context.close()


@pytest.mark.browser
@pytest.mark.timeout(90)
def test_the_demo_page_shows_a_hostile_stream_as_text(watched: Watched, demo: Demo) -> None:
    """Markup, scripts and URLs in every field of every message: all of it is to be read, none of it does anything."""
    watched.tab.goto(demo.url)
    watched.wait_for("window.stagecastDemo?.messages > 0")
    publish_hostile(demo.bus, PROJECT)
    watched.wait_for("window.stagecastDemo.ended")
    shown = watched.tab.evaluate("document.querySelector('#stage-rewrite .body').textContent")
    assert shown == "".join(f"{mark}\n" for mark in MARKS)
    assert MARKS[0] in watched.tab.inner_text("#stage-rewrite .message")
    assert MARKS[0] in watched.tab.inner_text("#overall .message")
    images = "[...document.querySelectorAll('.gallery img')]"
    watched.wait_for(f"{images}.length === {len(MARKS)} && {images}.every((image) => image.complete)")
    assert watched.tab.evaluate(f"{images}.map((image) => image.alt)") == MARKS
    watched.check()
    watched.tab.reload()
    watched.wait_for("window.stagecastDemo?.ended")
    watched.check()


@pytest.mark.browser
@pytest.mark.timeout(90)
def test_the_demo_page_runs_nothing_that_is_not_its_own(watched: Watched, demo: Demo) -> None:
    """Where markup got in all the same, its policy would stop it: inline code, foreign sources, foreign targets."""
    watched.tab.goto(demo.url)
    watched.wait_for("window.stagecastDemo?.messages > 0")
    watched.tab.evaluate(
        """() => {
          window.violations = [];
          document.addEventListener("securitypolicyviolation", (event) => violations.push(event.effectiveDirective));
          const add = (name, fields) => document.body.append(Object.assign(document.createElement(name), fields));
          add("script", { textContent: "window.hacked = 1" });
          add("script", { src: "https://evil.example/x.js" });
          add("img", { src: "https://evil.example/x.png" });
          add("style", { textContent: "body { color: red }" });
          add("iframe", { src: "https://evil.example/" });
          add("base", { href: "https://evil.example/" });
          fetch("https://evil.example/").catch(() => {});
          const form = Object.assign(document.createElement("form"), { action: "https://evil.example/" });
          document.body.append(form);
          form.submit();
        }"""
    )
    wanted = {"script-src-elem", "img-src", "style-src-elem", "frame-src", "base-uri", "connect-src", "form-action"}
    watched.wait_for(f"new Set(violations).size >= {len(wanted)}")
    assert set(watched.tab.evaluate("violations")) == wanted
    assert (watched.foreign, watched.tab.evaluate("window.hacked ?? null")) == ([], None)


@pytest.mark.browser
@pytest.mark.timeout(90)
def test_the_page_of_those_who_moved_shows_a_hostile_stream_as_text(chromium: Browser, pages: Served) -> None:
    """Of the examples, the page that shows every type of message; stages' names are hostile too."""
    bus = MemoryBus(CODEC, BusLimits())
    with served(create_app(bus, cors=CorsSettings(origins={url_of(pages)}))) as server:
        context = chromium.new_context()
        watched = Watched(context, url_of(pages), url_of(server))
        watched.tab.goto(f"{url_of(pages)}/moved/?{urlencode({'server': url_of(server), 'project': 'p'})}")
        watched.wait_for("document.querySelector('#pipeline').textContent === '已连接'")
        publish_hostile(bus, "p")
        watched.wait_for("document.querySelector('#pipeline').textContent.startsWith('失败')")
        assert watched.tab.evaluate("document.querySelector('#pipeline').textContent") == f"失败: {HOSTILE}"
        texts = watched.tab.evaluate("[...document.querySelectorAll('.text')].map((one) => one.textContent)")
        assert "".join(f"{mark}\n" for mark in MARKS) in texts
        watched.check()
        context.close()
