"""The demo's page in a real browser: what it shows, and that a reload in mid-stream loses nothing."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from stagecast.entrypoints.demo import prose
from stagecast.entrypoints.demo.pipeline import PROJECT, STAGES
from stagecast.entrypoints.demo.writer import narration
from stagecast.entrypoints.subscribers import RedisStreamSubscriber
from tests.browser.page import DemoPage
from tests.demo import TEXT, Demo
from tests.reading import rebuilt

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

only_in_memory = pytest.mark.parametrize("demo", ["memory"], indirect=True)
"""For what the page does by itself, whatever the transport."""

HOSTILE = "<img src=x onerror=window.hacked=1> said the robot 🤖. </script><script>window.hacked=1</script> 你好。"


class Listener:
    """An independent subscriber of the whole project: every message of one pipeline."""

    def __init__(self, demo: Demo) -> None:
        self.messages: list[dict[str, Any]] = []
        self._subscriber = RedisStreamSubscriber(PROJECT, bus=demo.bus)
        self._subscriber.subscribe()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        self.messages.extend(self._subscriber.listen(timeout=60))

    def published(self, stage: str) -> str:
        """The stage's text, of its token messages alone, once the pipeline has ended."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        return rebuilt(message for message in self.messages if message["stage"] == stage)

    def close(self) -> None:
        self._subscriber.close()
        self._thread.join(10)


@contextmanager
def listening(demo: Demo) -> Iterator[Listener]:
    listener = Listener(demo)
    try:
        yield listener
    finally:
        listener.close()


def test_reloads_in_mid_stream_lose_no_character(demo: Demo, page: DemoPage) -> None:
    """The text rebuilt from token messages equals the published one, emoji and Chinese included, across reloads."""
    with listening(demo) as listener:
        page.run(TEXT)
        for length in (30, 90):
            page.wait_for(f"window.stagecastDemo.rebuilt.rewrite.length >= {length}")
            page.reload()
            page.wait_for("window.stagecastDemo.rebuilt.rewrite")
            assert page.status("rewrite") == "processing", "the reload came too late to be in mid-stream"
        page.wait_for("window.stagecastDemo.rebuilt.storyboard.length >= 100")
        page.reload()
        page.wait_for("window.stagecastDemo.rebuilt.storyboard")
        assert page.status("storyboard") == "processing", "the reload came too late to be in mid-stream"
        page.wait_for_end()

        for stage in ("rewrite", "storyboard"):
            assert page.rebuilt(stage) == listener.published(stage)
            assert page.shown(stage) == listener.published(stage)
        assert page.rebuilt("rewrite") == narration(TEXT)
        assert len(listener.published("storyboard").splitlines()) == 5
    assert [page.status(stage) for stage in STAGES] == ["done"] * 3


@only_in_memory
def test_pictures_appear_one_by_one_and_survive_a_reload(page: DemoPage) -> None:
    """Each shot becomes a picture that the browser can decode; a reload in between shows the earlier ones again."""
    page.run(TEXT)
    page.wait_for("window.stagecastDemo.state.stages.image_generation.items.size >= 1")
    assert page.status("image_generation") == "processing"
    page.reload()
    page.wait_for_end()
    page.wait_for("document.querySelectorAll('.gallery img').length === 5")
    page.wait_for("[...document.querySelectorAll('.gallery img')].every((image) => image.complete)")
    assert page.pictures() == 5
    captions = page.see("[...document.querySelectorAll('.gallery img')].map((image) => image.alt)")
    assert captions == [shot.caption for shot in prose.shots(page.rebuilt("storyboard"))]


def test_a_failing_stage_is_shown_and_ends_the_pipeline(demo: Demo, page: DemoPage) -> None:
    """The failing stage keeps its text and shows its error; what waits behind it will not start; no spinner stays."""
    with listening(demo) as listener:
        page.run(TEXT, fail="storyboard")
        page.wait_for_end()
        assert [page.status(stage) for stage in STAGES] == ["done", "error", "skipped"]
        assert "you asked this stage to fail" in page.tab.inner_text("#stage-storyboard .message")
        assert "storyboard" in page.tab.inner_text("#overall .message")
        assert page.tab.get_attribute("#overall", "data-status") == "error"
        assert page.rebuilt("storyboard") == listener.published("storyboard") != ""
        assert [message["type"] for message in listener.messages][-1] == "pipeline_error"


def test_running_again_after_the_end_shows_the_new_run(page: DemoPage) -> None:
    """A second click after a failed run connects again and shows nothing of the first run."""
    page.run(TEXT, fail="rewrite")
    page.wait_for_end()
    assert page.status("rewrite") == "error"
    page.run("Two gulls flew 🐦. 海又空了。")
    page.wait_for("window.stagecastDemo.state.outcome?.ok")
    page.wait_for_end()
    assert page.rebuilt("rewrite") == "Two gulls flew 🐦.\n海又空了。"
    assert page.pictures() == 2
    assert page.see("window.stagecastDemo.connections") == 2


def test_running_again_in_mid_stream_replaces_the_run(demo: Demo, page: DemoPage) -> None:
    """A second click takes the stages over on the same connection; the first run's text is gone, and stays gone."""
    page.run(TEXT)
    page.wait_for("window.stagecastDemo.rebuilt.storyboard.length > 0")
    with listening(demo) as listener:
        page.run("Two gulls flew 🐦. 海又空了。")
        page.wait_for_end()
        assert page.rebuilt("rewrite") == "Two gulls flew 🐦.\n海又空了。"
        assert page.rebuilt("storyboard") == listener.published("storyboard")
    assert page.pictures() == 2
    assert page.see("window.stagecastDemo.connections") == 1


@only_in_memory
def test_a_late_tab_sees_the_finished_run(page: DemoPage) -> None:
    """A page that is opened after the end shows the newest run, and its stream ends at once."""
    page.run("Two gulls flew 🐦. 海又空了。")
    page.wait_for_end()
    page.reload()
    page.wait_for_end()
    assert page.rebuilt("rewrite") == "Two gulls flew 🐦.\n海又空了。"
    assert [page.status(stage) for stage in STAGES] == ["done"] * 3


@only_in_memory
def test_the_stream_is_text_and_never_markup(page: DemoPage) -> None:
    """Markup in the user's text, in tokens, captions and pictures, is shown as it is and runs nothing."""
    page.run(HOSTILE)
    page.wait_for_end()
    assert "<img src=x onerror=window.hacked=1>" in page.shown("rewrite")
    assert page.see("window.hacked") is None
    assert page.see("document.querySelectorAll('.text img, .text script').length") == 0
    page.wait_for("[...document.querySelectorAll('.gallery img')].every((image) => image.complete)")
    assert page.pictures() == len(prose.shots(page.rebuilt("storyboard"))) > 0


@only_in_memory
def test_a_text_without_words_is_refused_with_its_reason(page: DemoPage) -> None:
    """The page shows why the server did not take the text."""
    page.tab.fill("#text", " … ")
    page.expected_errors.append("422 (Unprocessable")
    with page.tab.expect_response("**/demo/runs") as answered:
        page.tab.click("#run")
    assert answered.value.status == 422
    page.tab.wait_for_selector("#problem:not([hidden])")
    assert page.tab.inner_text("#problem") == "the text has no words"


def test_the_page_says_that_no_model_is_at_work(page: DemoPage) -> None:
    """Without a model the page says so, and shows the transport."""
    assert page.tab.inner_text("#writer").startswith("No language model")
    assert page.tab.inner_text("#transport") in {"memory, one process", "Redis and a Celery worker"}
