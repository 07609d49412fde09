"""What the log says of a publisher's life: one line an event, no secret, no text; and the table of all loggers."""

import ast
import logging
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from stagecast import RedisStreamPublisher, RedisStreamSubscriber
from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.topics import Topic
from stagecast.entrypoints import cli, runs, wiring
from stagecast.entrypoints.testing.actors import Producer, queued, reading
from tests.celery.app import make_app, tasks_of
from tests.servers import RedisServer, available_redis_kinds, start_redis
from tests.waiting import eventually, wait_until

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
STAGE = "rewrite"
USER = "app"
FORMATTER = logging.Formatter()
"""Writes a record as a log file has it, with the traces of exceptions."""
LEVELS = {
    "debug": {"DEBUG"},
    "info": {"INFO"},
    "warning": {"WARNING"},
    "error": {"ERROR"},
    "exception": {"ERROR"},
    "log": {"DEBUG", "WARNING"},  # the publisher's refusals
}
"""What a logger's method writes."""

Lines = Callable[[str], list[str]]


@pytest.fixture
def password() -> str:
    return f"pw-{uuid4().hex}"


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """All records of all loggers, from DEBUG on."""
    caplog.set_level(logging.DEBUG)
    return caplog


@pytest.fixture
def lines(everything: pytest.LogCaptureFixture) -> Lines:
    """The lines so far that contain a text, each as `LEVEL logger message`."""

    def found(text: str) -> list[str]:
        told = [f"{one.levelname} {one.name} {one.getMessage()}" for one in list(everything.records)]
        return [line for line in told if text in line]

    return found


def url_with(password: str, server: RedisServer) -> str:
    return f"redis://{USER}:{password}@127.0.0.1:{server.port}/0"


def is_ours(record: logging.LogRecord) -> bool:
    return Path(record.pathname).resolve().is_relative_to(SOURCE)


def test_the_life_of_a_publisher(
    everything: pytest.LogCaptureFixture,
    lines: Lines,
    password: str,
    project: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Over an outage, a refusal and the doctor nothing tells the password at any level, or a text above DEBUG."""
    text = f"text-{uuid4().hex}"
    user = ["--user", USER, "on", f">{password}", "~*", "&*", "+@all"]
    with start_redis(available_redis_kinds()[0], extra_args=user) as server:
        url = url_with(password, server)
        with (
            RedisStreamSubscriber(project, STAGE, bus=url) as subscriber,
            RedisStreamPublisher(project, STAGE, bus=url, timeout=20) as publisher,
            RedisStreamPublisher(project, "images", bus=url, timeout=20) as other,
        ):
            publisher.publish_stage_update("processing", 0)
            other.publish_progress(1, 2)
            publisher.publish_token(text)
            assert publisher.flush()
            assert other.flush()
            server.kill()
            for _ in range(100):
                publisher.publish_token(text)
            other.publish_progress(2, 2)
            wait_until(lambda: len(lines("the bus is away")) >= 2)
            assert not publisher.flush(0.5), "long enough for several attempts"
            server.restart()
            assert publisher.publish_done(full_text=publisher.text)
            assert other.publish_error("boom")
            assert list(subscriber.listen(10))[-1]["type"] == "done"
            unfit: Any = {"it": object()}
            assert not publisher.publish_done(text, metadata=unfit)
        with pytest.raises(BusUnavailable):
            RedisStreamSubscriber(project, STAGE, bus=url_with(f"{password}-wrong", server))
        assert cli.main(["doctor", "--bus", url]) == 0
        assert cli.main(["doctor", "--bus", url_with(f"{password}-wrong", server)]) == 1
    for stage in (STAGE, "images"):
        (away,) = lines(f"{project}/{stage}: the bus is away, events wait")
        (back,) = lines(f"{project}/{stage}: the bus is back")
        assert away.startswith("WARNING stagecast.publisher ")
        assert back.startswith("INFO stagecast.publisher ")
    assert lines(f"WARNING stagecast.publisher {project}/{STAGE}: refused: metadata.it is of type object")
    records = [record for record in list(everything.records) if is_ours(record)]
    assert records
    assert {record.name.partition(".")[0] for record in records} == {"stagecast"}
    assert not [line for record in everything.records if password in (line := FORMATTER.format(record))]
    above = [record for record in everything.records if record.levelno > logging.DEBUG]
    assert not [line for record in above if text in (line := FORMATTER.format(record))]
    assert password not in "".join(capsys.readouterr())


async def test_a_feed_that_was_down_and_is_back(any_redis: RedisServer, lines: Lines, project: str) -> None:
    """The feed's connection is killed twice: each time one warning that it is down, one line that it is back."""
    bus = wiring.open_bus(any_redis.url, BusLimits(lease=0.4))

    def has_come_back(times: int) -> bool:
        return len(lines("the feed is back")) == times

    try:
        async with bus.subscribe(Topic(project)):
            for number in (1, 2):
                with any_redis.client() as client:
                    client.client_kill_filter(_type="pubsub", skipme=False)
                await eventually(partial(has_come_back, number))
            told = [line.partition(": ")[0] for line in lines("stagecast.redis the feed is")]
            assert told == 2 * [
                "WARNING stagecast.redis the feed is down and reconnects",
                "INFO stagecast.redis the feed is back",
            ]
    finally:
        await bus.aclose()


async def test_a_lease_that_lapsed(bus_url: str, lines: Lines, project: str) -> None:
    """Who ends the run of a dead producer says so, once, with the run; and so of a run that nobody began."""
    bus = wiring.open_bus(bus_url, BusLimits(lease=0.2, queue_deadline=0.2))
    topic, waiting = Topic(project, STAGE), Topic(project, "waiting")
    producer = Producer(topic)
    try:
        async with reading(bus, Topic(project)) as reader:
            await producer.write(bus, "half of ")
            await bus.open_run(queued(waiting, "run-1"))
            await reader.until_ended(topic)
            await reader.until_ended(waiting)
            await reader.until(lambda: len(lines("is ended")) == 2)
    finally:
        await bus.aclose()
    assert sorted(lines("is ended")) == [
        f"WARNING stagecast.leases {topic}: run {producer.run} is ended: its lease was not renewed",
        f"WARNING stagecast.leases {waiting}: run run-1 is ended: nobody began it before its deadline",
    ]


def test_a_task_that_is_not_executed(lines: Lines, project: str) -> None:
    """A task whose stage has a newer run says in one line why it does nothing."""
    bus = wiring.open_bus("memory://")
    app = make_app("memory://", "celery", bus)
    topic = Topic(project, STAGE)
    assert runs.announce(bus, topic, "old", "old")
    tasks_of(app).rewrite.apply((project, ["new"]), task_id="new")
    tasks_of(app).rewrite.apply((project, ["old"]), task_id="old")
    assert lines("is not executed") == [
        f"INFO stagecast.celery {topic}: the task is not executed: run old was superseded before its start"
    ]


def test_every_logger_is_in_the_table() -> None:
    """docs/troubleshooting.md lists the loggers of the source, and the levels at which each speaks."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(stagecast\.\w+)` \| (\w+) \|", page, re.MULTILINE)
    assert sorted(rows) == sorted({spoken for path in SOURCE.rglob("*.py") for spoken in spoken_in(path)})


def spoken_in(path: Path) -> set[tuple[str, str]]:
    """Logger and level of each line that a module can write; a module has one logger, named by a constant."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    loggers = [ast.literal_eval(call.args[0]) for call in calls if ast.unparse(call.func) == "logging.getLogger"]
    names = {name for name in loggers if name.startswith("stagecast")}  # another's may be filtered
    assert len(names) <= 1, path
    levels = set()
    for call in calls:
        assert isinstance(call.func, ast.Attribute)
        if ast.unparse(call.func.value) == "logger":
            levels |= LEVELS[call.func.attr]
    assert bool(levels) == bool(names), f"{path}: a logger that is not used"
    return {(name, level) for name in names for level in levels}
