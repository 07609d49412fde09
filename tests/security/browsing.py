"""A tab that is watched, and pages of an origin of their own, which read streams of another."""

from pathlib import Path

from playwright.sync_api import BrowserContext, Dialog, Page, Route
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount
from starlette.routing import Route as Path_
from starlette.staticfiles import StaticFiles

from tests.sse.serving import Served

ROOT = Path(__file__).parents[2]
SECONDS = 30.0


class Watched:
    """A tab, and what it has done that no page of ours does."""

    def __init__(self, context: BrowserContext, *allowed: str) -> None:
        self.foreign: list[str] = []
        self.dialogs: list[str] = []
        self._allowed = allowed
        context.route("**/*", self._note)
        self.tab: Page = context.new_page()
        self.tab.on("dialog", self._dismiss)

    def _note(self, route: Route) -> None:
        url = route.request.url
        if url.startswith((*self._allowed, "data:")):
            route.continue_()
        else:
            self.foreign.append(url)
            route.abort()

    def _dismiss(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def wait_for(self, expression: str) -> None:
        """Poll from outside: a page's policy may forbid evaluating text inside."""
        for _ in range(int(SECONDS * 50)):
            if self.tab.evaluate(expression):
                return
            self.tab.wait_for_timeout(20)
        raise AssertionError(f"not within {SECONDS} s: {expression}; {self.tab.inner_text('body')}")

    def check(self) -> None:
        """Nothing ran, nothing was loaded, nothing was built that a page of ours does not build."""
        assert (self.foreign, self.dialogs, self.tab.evaluate("window.hacked ?? null")) == ([], [], None)
        assert self.tab.evaluate("(selector) => document.querySelectorAll(selector).length", BUILT) == 0


BUILT = (
    "iframe, object, embed, base, form[action], main script, svg, [onerror], [onload], [onclick], a[href*=evil], "
    "[style*=evil], img:not([src^='data:image/svg+xml']):not([src^='/demo/'])"
)
"""What neither page has, unless somebody else has built it."""
READER = """<!doctype html><meta charset="utf-8"><title>reader</title><link rel="icon" href="data:,"><script>
  window.result = null;
  const read = async (url, init) => {
    const answer = await fetch(url, init);
    const reader = answer.body.getReader();
    const { value } = await reader.read();
    await reader.cancel();
    return [answer.status, new TextDecoder().decode(value)];
  };
  const headers = { Accept: "text/event-stream", Authorization: "Bearer good", "Last-Event-ID": "1-1" };
  read(new URLSearchParams(location.search).get("url"), { headers, cache: "no-store" })
    .then((found) => { window.result = found; parent.postMessage(found, "*"); })
    .catch((error) => { window.result = String(error); parent.postMessage(String(error), "*"); });
</script>"""
FRAMING = """<!doctype html><title>framing</title><link rel="icon" href="data:,">
<iframe sandbox="allow-scripts" src="/reader?%s"></iframe>
<script>addEventListener("message", (event) => { window.result = event.data; window.from = event.origin; });</script>"""


def create_pages() -> Starlette:
    """`/reader` and, in a sandbox, `/framing` fetch `?url=`; `/framed` shows it in a frame; `/moved/` is an example."""

    async def reader(request: Request) -> HTMLResponse:
        return HTMLResponse(READER)

    async def framing(request: Request) -> HTMLResponse:
        return HTMLResponse(FRAMING % request.url.query)

    async def framed(request: Request) -> HTMLResponse:
        return HTMLResponse(f"<!doctype html><iframe src={request.query_params['url']!r}></iframe>")

    folder = ROOT / "examples" / "moving-from-core-redis"
    return Starlette(
        routes=[
            Path_("/reader", reader),
            Path_("/framing", framing),
            Path_("/framed", framed),
            Mount("/moved", StaticFiles(directory=folder, html=True)),
        ]
    )


def url_of(server: Served) -> str:
    return f"http://127.0.0.1:{server.port}"
