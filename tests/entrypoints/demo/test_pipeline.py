"""The demo's pipeline on the in-memory bus: what its stages publish, as the seed's users do."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from stagecast.domain.bus import MessageBus
from stagecast.domain.errors import BusUnavailable, InvalidEvent
from stagecast.entrypoints import wiring
from stagecast.entrypoints.demo import pipeline, prose
from stagecast.entrypoints.demo.pipeline import PIPELINE, STAGES, Job
from stagecast.entrypoints.demo.writer import LocalWriter, narration
from stagecast.entrypoints.subscribers import RedisStreamSubscriber
from tests.demo import TEXT
from tests.reading import rebuilt, told
from tests.waiting import wait_until


@pytest.fixture
def bus() -> MessageBus:
    return wiring.open_bus("memory://")


def messages_of(job: Job, bus: MessageBus, writer: LocalWriter | None = None) -> list[dict[str, Any]]:
    """Everything that a subscriber of the project is told of the job."""
    with RedisStreamSubscriber(job.project, bus=bus) as subscriber:
        subscriber.subscribe()
        pipeline.announce(job, bus)
        pipeline.run(job, bus, writer or LocalWriter(0), 0)
        return list(subscriber.listen(timeout=10))


def of(messages: list[dict[str, Any]], stage: str) -> list[dict[str, Any]]:
    return [message for message in messages if message["stage"] == stage]


def test_each_stage_publishes_what_the_seeds_users_publish(bus: MessageBus) -> None:
    """queued, processing, text or items with progress, done, stage_completed; and the pipeline's own end."""
    messages = messages_of(Job.of(TEXT), bus)
    for stage in ("rewrite", "storyboard"):
        words = [word for word in told(of(messages, stage)) if word != "reset"]
        assert words[:3] == ["queued", "processing", "token"]
        assert words[-2:] == ["done", "stage_completed"]
        assert set(words[2:-2]) == {"token", "processing"}
    words = told(of(messages, "image_generation"))
    assert words == ["queued", "processing", *["progress", "item_completed"] * 5, "progress", "done", "stage_completed"]
    assert told(of(messages, PIPELINE)) == ["queued", *["processing"] * 3, "done", "pipeline_done"]
    assert messages[-1]["type"] == "pipeline_done"


def test_the_texts_are_the_writers(bus: MessageBus) -> None:
    """Rebuilt from token messages alone; `done` and its metadata agree."""
    messages = messages_of(Job.of(TEXT), bus)
    text = rebuilt(of(messages, "rewrite"))
    assert text == narration(TEXT)
    done = next(message for message in of(messages, "rewrite") if message["type"] == "done")
    assert done["full_text"] == text
    assert done["metadata"]["tokens"] == len(prose.tokens(text))
    assert done["metadata"]["model"] is None


def test_progress_only_grows_and_ends_at_all(bus: MessageBus) -> None:
    """A progress bar never jumps back."""
    messages = messages_of(Job.of(TEXT), bus)
    for stage in STAGES:
        shown = [message["progress"] for message in of(messages, stage) if message.get("progress") is not None]
        assert shown == sorted(shown)
    assert of(messages, "image_generation")[-3]["current"] == 5


def test_each_picture_is_an_item_with_its_caption(bus: MessageBus) -> None:
    """Items are numbered from 1 and carry the picture."""
    messages = messages_of(Job.of(TEXT), bus)
    items = [message for message in of(messages, "image_generation") if message["type"] == "item_completed"]
    shots = prose.shots(rebuilt(of(messages, "storyboard")))
    assert [item["sequence_number"] for item in items] == [shot.number for shot in shots] == [1, 2, 3, 4, 5]
    assert [item["metadata"]["caption"] for item in items] == [shot.caption for shot in shots]
    assert all(item["metadata"]["svg"].startswith("<svg ") for item in items)


@pytest.mark.parametrize(
    "text",
    ["船 \ud800 came. \x00 <b>&amp;", "." * 9_999 + "a. B" + "! " * 4_998, "a" * 20_000],
    ids=["surrogate", "punctuation", "word"],
)
def test_a_hostile_text_runs_to_the_end(bus: MessageBus, text: str) -> None:
    """A lone surrogate, control characters, markup, and text that is all punctuation or one word."""
    messages = messages_of(Job.of(text), bus)
    assert messages[-1]["type"] == "pipeline_done"
    assert rebuilt(of(messages, "rewrite")) == narration(Job.of(text).text)


@pytest.mark.parametrize("failing", STAGES)
def test_a_failing_stage_ends_the_pipeline(bus: MessageBus, failing: str) -> None:
    """The stage ends with `error`, those behind it with `error` (cancelled), the pipeline with `pipeline_error`."""
    messages = messages_of(Job.of(TEXT, failing), bus)
    index = STAGES.index(failing)
    ends = {
        stage: next(message for message in of(messages, stage) if message["type"] in {"done", "error"})
        for stage in (*STAGES, PIPELINE)
    }
    assert [ends[stage]["type"] for stage in STAGES] == ["done"] * index + ["error"] * (len(STAGES) - index)
    assert "you asked this stage to fail" in ends[failing]["error"]
    assert all(ends[stage]["reason"] == "cancelled" for stage in STAGES[index + 1 :])
    assert ends[PIPELINE]["type"] == "error"
    assert messages[-1]["type"] == "pipeline_error"
    assert messages[-1]["metadata"] == {"stage": failing}


@pytest.mark.parametrize("failing", STAGES)
def test_even_the_shortest_text_fails_on_request(bus: MessageBus, failing: str) -> None:
    """One word is one token and one picture."""
    assert messages_of(Job.of("Boat", failing), bus)[-1]["type"] == "pipeline_error"


class Held(LocalWriter):
    """Writes on only when told to."""

    def __init__(self) -> None:
        super().__init__(0)
        self.go = threading.Event()

    def rewrite(self, text: str) -> Iterator[str]:
        for count, token in enumerate(super().rewrite(text)):
            if count == 5:
                self.go.wait(20)
            yield token


def test_a_newer_job_takes_over_and_the_older_one_is_silent(bus: MessageBus) -> None:
    """From its announcement on, nothing of the older job is shown, in any stage."""
    writer = Held()
    older, newer = Job.of(TEXT), Job.of("Two gulls flew. 海又空了。")
    pipeline.announce(older, bus)
    thread = threading.Thread(target=pipeline.run, args=(older, bus, writer, 0))
    with RedisStreamSubscriber(older.project, "rewrite", bus=bus) as watching:
        watching.subscribe()
        thread.start()
        wait_until(lambda: (watching.get_message(5) or {}).get("type") == "token")
    try:
        messages = messages_of(newer, bus)
    finally:
        writer.go.set()
        thread.join(20)
    assert not thread.is_alive()
    start = next(index for index, message in enumerate(messages) if message["type"] == "reset")
    assert rebuilt(of(messages[start:], "rewrite")) == narration(newer.text)
    assert messages[-1]["type"] == "pipeline_done"
    with RedisStreamSubscriber(newer.project, bus=bus) as late:
        assert rebuilt(of(list(late.listen(timeout=1)), "rewrite")) == narration(newer.text)


@pytest.mark.parametrize(
    ("text", "fail_stage", "reason"),
    [
        (" … ", None, "no words"),
        ("", None, "no words"),
        ("a" * 20_001, None, "20001 characters"),
        ("boat", "video", "no stage 'video'"),
    ],
)
def test_what_cannot_run_is_refused(text: str, fail_stage: str | None, reason: str) -> None:
    """Before anything is announced."""
    with pytest.raises(InvalidEvent, match=reason):
        Job.of(text, fail_stage)


def test_a_closed_bus_is_unavailable(bus: MessageBus) -> None:
    """The web server answers 503 for it, not a job that nobody will see."""
    from stagecast.entrypoints.background import background

    background().call(bus.aclose(), 5)
    with pytest.raises(BusUnavailable):
        pipeline.announce(Job.of("boat"), bus)
