"""The demo's pipeline: what each stage publishes, as the seed's users write it, and how the whole begins and ends.

Knows neither threads nor Celery: `run` is the whole pipeline in the caller's thread, and the Celery tasks call the same
stages one by one. Every stage has a run of its own, announced before it starts; a newer job supersedes them all.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self
from uuid import uuid4

from attrs import asdict, frozen

from stagecast.domain import values
from stagecast.domain.bus import MessageBus
from stagecast.domain.errors import BusUnavailable, InvalidEvent, RunCancelled, RunSuperseded
from stagecast.domain.ledger import LAPSE_MESSAGES
from stagecast.domain.producing import TaskRun
from stagecast.domain.topics import Topic
from stagecast.entrypoints import failures, runs
from stagecast.entrypoints.publishers import RedisStreamPublisher

from . import prose
from .drawing import draw
from .scene import read_scenes
from .writer import Writer

PROJECT = "123"
STAGES = ("rewrite", "storyboard", "image_generation")
PIPELINE = "pipeline"
LONGEST_TEXT = 20_000
"""Characters of a user's text."""

_STEP = 5
"""Percent between two reports of a text stage's progress."""
_FAILS_AT = 0.4
"""Where in a stage a failure that was asked for happens."""


class FailureOnRequest(Exception):
    """A stage fails because the user has asked for it."""


@frozen(kw_only=True)
class Job:
    """What one click asks for."""

    project: str
    text: str
    fail_stage: str | None
    runs: Mapping[str, str]
    """The run id of each stage, the pipeline's own included."""

    @classmethod
    def of(cls, text: str, fail_stage: str | None = None, project: str = PROJECT) -> Self:
        """A new job. Raises InvalidEvent for a text without a sentence, too long a one, and an unknown stage."""
        if len(text) > LONGEST_TEXT:
            raise InvalidEvent(f"the text has {len(text)} characters; the demo takes {LONGEST_TEXT}")
        text = values.sound(text, "text")
        if not prose.sentences(text):
            raise InvalidEvent("the text has no words")
        if fail_stage is not None and fail_stage not in STAGES:
            raise InvalidEvent(f"there is no stage {fail_stage!r}; there are {', '.join(STAGES)}")
        named = {stage: uuid4().hex for stage in (*STAGES, PIPELINE)}
        return cls(project=project, text=text, fail_stage=fail_stage, runs=named)

    def as_message(self) -> dict[str, Any]:
        """The job as a Celery message carries it; `Job(**message)` is the job again."""
        return asdict(self)


def announce(job: Job, bus: MessageBus) -> None:
    """Publish that all stages wait, which takes them over from a job in progress. Raises BusUnavailable."""
    for stage in (PIPELINE, *STAGES):
        run = job.runs[stage]
        if not runs.announce(bus, Topic.of(job.project, stage), run, run):
            raise BusUnavailable("the bus does not answer: try again in a moment")


def run(job: Job, bus: MessageBus, writer: Writer, pause: float) -> None:
    """The whole pipeline in this thread, `pause` seconds a picture. A failure is published, not raised."""
    stage = STAGES[0]
    try:
        begin(job, bus)
        with _execution(job, stage, bus) as publisher:
            narration = rewrite(publisher, job, writer)
        stage = STAGES[1]
        advance(job, bus, stage)
        with _execution(job, stage, bus) as publisher:
            board = storyboard(publisher, job, writer, narration)
        stage = STAGES[2]
        advance(job, bus, stage)
        with _execution(job, stage, bus) as publisher:
            pictures = image_generation(publisher, job, board, pause)
        finish(job, bus, pictures)
    except RunSuperseded:
        pass
    except Exception as error:
        fail(job, bus, stage, error)


@contextmanager
def _execution(job: Job, stage: str, bus: MessageBus) -> Iterator[RedisStreamPublisher]:
    """What `StageTask` does for a Celery task."""
    with RedisStreamPublisher(job.project, stage, bus=bus, task=_task(job, stage)) as publisher:
        try:
            yield publisher
        except RunSuperseded:
            raise
        except RunCancelled:
            publisher.publish_error(LAPSE_MESSAGES["cancelled"], reason="cancelled")
            raise
        except Exception as error:
            if not publisher.has_ended:
                publisher.publish_error(failures.told("The stage failed", error, f"{job.project}/{stage}"))
            raise


def rewrite(publisher: RedisStreamPublisher, job: Job, writer: Writer) -> str:
    """The stage `rewrite`: the user's text as a narration."""
    publisher.publish_stage_update("processing", 0, "Rewriting your text")
    return _write(publisher, job, writer, writer.rewrite(job.text), len(job.text))


def storyboard(publisher: RedisStreamPublisher, job: Job, writer: Writer, narration: str) -> str:
    """The stage `storyboard`: the narration as shots."""
    publisher.publish_stage_update("processing", 0, "Breaking it into shots")
    return _write(publisher, job, writer, writer.storyboard(narration), int(len(narration) * 1.3))


def image_generation(publisher: RedisStreamPublisher, job: Job, board: str, pause: float) -> int:
    """The stage `image_generation`: a picture of each shot, really drawn. Returns how many."""
    began = time.monotonic()
    shots = prose.shots(board)
    scenes = read_scenes(shot.caption for shot in shots)
    publisher.publish_stage_update("processing", 0, f"Drawing {len(shots)} pictures")
    for done, (shot, scene) in enumerate(zip(shots, scenes, strict=True)):
        publisher.publish_progress(done, len(shots), f"Shot {shot.number}")
        _check(publisher, job, done / len(shots))
        time.sleep(pause)
        picture = draw(shot.caption, scene)
        publisher.publish_item_completed("image", shot.number, {"caption": shot.caption, "svg": picture})
    _check(publisher, job, 1.0)
    publisher.publish_progress(len(shots), len(shots), f"Shot {len(shots)}")
    metadata = {"images": len(shots), "latency_ms": _milliseconds(began)}
    publisher.publish_done(metadata=metadata)
    publisher.publish_stage_completed(metadata)
    return len(shots)


def begin(job: Job, bus: MessageBus) -> None:
    """Publish that the pipeline runs."""
    with _pipeline(job, bus) as publisher:
        publisher.publish_stage_update("processing", 0, f"Running {STAGES[0]}")


def advance(job: Job, bus: MessageBus, stage: str) -> None:
    """Publish that the pipeline has come to `stage`."""
    with _pipeline(job, bus) as publisher:
        publisher.publish_stage_update("processing", STAGES.index(stage) * 100 // len(STAGES), f"Running {stage}")


def finish(job: Job, bus: MessageBus, pictures: int) -> None:
    """Publish the end of the pipeline."""
    metadata = {"images": pictures}
    with _pipeline(job, bus) as publisher:
        publisher.publish_done(metadata=metadata)
        publisher.publish_pipeline_done(metadata)


def fail(job: Job, bus: MessageBus, stage: str, error: BaseException) -> None:
    """Publish that the pipeline failed in `stage` by `error`; the stages behind it will not start.

    The stage has published its error itself, unless it was killed: then its end is published here.
    """
    text = str(error) if isinstance(error, FailureOnRequest) else f"{stage} has failed."
    runs.end(bus, Topic.of(job.project, stage), job.runs[stage], text, "exception", wait=runs.PATIENCE)
    for waiting in STAGES[STAGES.index(stage) + 1 :]:
        topic, reason = Topic.of(job.project, waiting), f"Not started: {stage} has failed."
        runs.end(bus, topic, job.runs[waiting], reason, "cancelled", wait=runs.PATIENCE)
    with _pipeline(job, bus) as publisher:
        publisher.publish_error(f"{stage} has failed.")
        publisher.publish_pipeline_error(f"{stage} has failed.", {"stage": stage})


def _pipeline(job: Job, bus: MessageBus) -> RedisStreamPublisher:
    """A publisher of the pipeline's own run, whoever uses it: the same nonce is the same attempt."""
    return RedisStreamPublisher(job.project, PIPELINE, bus=bus, task=_task(job, PIPELINE))


def _task(job: Job, stage: str) -> TaskRun:
    identity = job.runs[stage]
    return TaskRun(run=identity, task=identity, nonce=identity)


def _write(
    publisher: RedisStreamPublisher, job: Job, writer: Writer, pieces: Iterator[str], expected_characters: int
) -> str:
    began, count, reported, full_text = time.monotonic(), 0, 0, ""
    for piece in pieces:
        full_text += piece
        count += 1
        publisher.publish_token(piece, full_text)
        share = min(len(full_text) / max(expected_characters, 1), 0.99)
        _check(publisher, job, share)
        if (percent := int(share * 100) // _STEP * _STEP) > reported:
            reported = percent
            publisher.publish_stage_update("processing", percent)
    _check(publisher, job, 1.0)
    metadata = {"tokens": count, "latency_ms": _milliseconds(began), "model": writer.model}
    publisher.publish_done(full_text, metadata)
    publisher.publish_stage_completed(metadata)
    return full_text


def _check(publisher: RedisStreamPublisher, job: Job, share: float) -> None:
    """Raise where the stage, of which `share` is done, must not go on."""
    if publisher.superseded:
        raise RunSuperseded("a newer run has taken over")
    if publisher.cancelled:
        raise RunCancelled("the run was cancelled")
    if job.fail_stage == publisher.stage_name and share >= _FAILS_AT:
        error = FailureOnRequest("the generator answered 503 (you asked this stage to fail)")
        publisher.publish_error(error)  # the words are for viewers; those of other exceptions are not
        raise error


def _milliseconds(since: float) -> int:
    return round((time.monotonic() - since) * 1000)
