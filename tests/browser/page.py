"""What a test does with the demo's page, and sees on it."""

import time
from typing import Any

from playwright.sync_api import Page

STREAM_SECONDS = 60.0


class DemoPage:
    """The page in one tab. Waiting is polling from outside: the page's CSP forbids evaluating text inside."""

    def __init__(self, tab: Page, url: str) -> None:
        self.tab, self.url = tab, url
        self.expected_errors: list[str] = []
        """Parts of what the browser's console may complain of."""

    def open(self) -> None:
        self.tab.goto(self.url)
        self.wait_for("window.stagecastDemo?.messages > 0")

    def reload(self) -> None:
        self.tab.reload()
        self.wait_for("window.stagecastDemo?.messages > 0")

    def run(self, text: str | None = None, *, fail: str | None = None) -> None:
        """Click the button; returns when the server has taken the job."""
        if text is not None:
            self.tab.fill("#text", text)
        if fail is not None:
            self.tab.select_option("#fail-stage", fail)
        with self.tab.expect_response("**/demo/runs") as answered:
            self.tab.click("#run" if fail is None else "#run-failing")
        assert answered.value.status == 202, answered.value.text()

    def see(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self.tab.evaluate(expression)

    def rebuilt(self, stage: str) -> str:
        """The stage's text as the page has made it of token messages alone."""
        return str(self.see(f"window.stagecastDemo.rebuilt['{stage}']"))

    def shown(self, stage: str) -> str:
        """The stage's text as it is in the document."""
        return str(self.see(f"document.querySelector('#stage-{stage} .body').textContent"))

    def status(self, stage: str) -> str:
        """The stage's status on the page."""
        return str(self.tab.get_attribute(f"#stage-{stage}", "data-status"))

    def pictures(self) -> int:
        """How many pictures have been decoded and have a size."""
        images = "[...document.querySelectorAll('.gallery img')]"
        return int(self.see(f"{images}.filter((image) => image.complete && image.naturalWidth > 0).length"))

    def wait_for(self, expression: str, timeout: float = STREAM_SECONDS) -> Any:
        """Poll a JavaScript expression until it is true."""
        deadline = time.monotonic() + timeout
        while not (value := self.see(expression)):
            assert time.monotonic() < deadline, f"not within {timeout} s: {expression}; {self.describe()}"
            self.tab.wait_for_timeout(20)
        return value

    def wait_for_end(self) -> None:
        self.wait_for("window.stagecastDemo.ended")

    def describe(self) -> Any:
        return self.see("JSON.stringify(window.stagecastDemo?.state ?? null)")
