"""Every Python and TOML block of the documents runs, on a real Redis; what a block assumes is given to it here."""

import logging
import tomllib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest
import redis
from celery import Celery

from stagecast import RedisStreamPublisher, RedisStreamSubscriber
from stagecast.entrypoints import configuration
from tests.reading import Message, rebuilt, told
from tests.seed.test_documents import BLOCK, PAGES, ROOT
from tests.servers import RedisServer

PROJECT, STAGE = "123", "rewrite"
TOKENS = ["这是", "一段", "流式", "文本", "，", "很", "长", "的", "，", "真的", "很长", "。"]
TEXT = "".join(TOKENS)

Names: TypeAlias = dict[str, Any]
Run: TypeAlias = Callable[[Callable[[Names], Names], str], None]
"""Runs a block: it is called with what executes the block on given names, and with the URL of a real, empty Redis."""


def python_blocks() -> Iterator[tuple[str, str]]:
    for page in (*PAGES, ROOT / "README.md"):
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            if match[1] in {"python", "toml"}:
                yield f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}", match[2]


BLOCKS = dict(python_blocks())


def follower() -> RedisStreamSubscriber:
    return RedisStreamSubscriber(PROJECT, STAGE)


def messages_of(subscriber: RedisStreamSubscriber) -> list[Message]:
    with subscriber:
        return list(subscriber.listen(10))


def the_task(execute: Callable[[Names], Names], _: str) -> None:
    model = SimpleNamespace(generate_stream=lambda prompt: iter(TOKENS))
    names = execute({"celery_app": Celery("documents"), "llm_client": model, "prompt": "p"})
    subscriber = follower()
    names["execute_llm_stage"](PROJECT, STAGE, {})
    messages = messages_of(subscriber)
    assert told(messages) == ["processing", "token", "done"]
    assert rebuilt(messages) == TEXT
    model.generate_stream = None
    subscriber = RedisStreamSubscriber("124", STAGE)
    names["execute_llm_stage"]("124", STAGE, {})
    assert told(messages_of(subscriber))[-1] == "error"


def a_publisher(execute: Callable[[Names], Names], _: str) -> None:
    subscriber = follower()
    execute({"RedisStreamPublisher": RedisStreamPublisher, "project_id": PROJECT, "stage_name": STAGE})
    messages = messages_of(subscriber)
    assert told(messages)[-2:] == ["token", "done"]
    assert messages[-1]["full_text"]


def a_stage_task(execute: Callable[[Names], Names], url: str) -> None:
    names = execute({"generate": lambda prompt: TOKENS})
    names["app"].conf.update(task_always_eager=True, broker_url=url)
    subscriber = follower()
    names["rewrite"].delay(PROJECT, "p")
    messages = messages_of(subscriber)
    assert rebuilt(messages) == TEXT
    assert messages[-1]["full_text"] == TEXT


def a_reader(execute: Callable[[Names], Names], _: str) -> None:
    said: list[str] = []
    seen: list[Message] = []
    with RedisStreamPublisher(PROJECT, STAGE) as publisher:
        publisher.publish_token("Hello")
        publisher.publish_done("Hello")
    with RedisStreamPublisher(PROJECT, "pipeline") as pipeline:
        pipeline.publish_pipeline_done()
    execute(
        {
            "RedisStreamSubscriber": RedisStreamSubscriber,
            "project_id": PROJECT,
            "stage_name": STAGE,
            "print": said.append,
            "process_message": seen.append,
        }
    )
    assert any("token" in line for line in said) or rebuilt(seen) == "Hello"


def an_application(execute: Callable[[Names], Names], _: str) -> None:
    paths = {route.path for route in execute({})["application"].routes[0].app.routes}
    assert "/api/v1/sse/projects/{project_id}/stages/{stage_name}/" in paths


def djangos_settings(execute: Callable[[Names], Names], _: str) -> None:
    names = execute({})
    assert {name for name in names if name.isupper()} == {"CELERY_BROKER_URL", "REDIS_URL", "STAGECAST_SSE_HEARTBEAT"}
    assert "sse.heartbeat" in configuration.TYPES


def the_mapping(execute: Callable[[Names], Names], _: str) -> None:
    execute({})
    assert configuration.current().sse.heartbeat == 10


def a_client_of_ones_own(execute: Callable[[Names], Names], url: str) -> None:
    pubsubs: list[Any] = []
    module = SimpleNamespace(
        from_url=lambda *args, **options: pubsubs.append(redis.from_url(*args, **options)),
        ConnectionPool=redis.ConnectionPool,
        Redis=lambda **options: pubsubs.append(redis.Redis(**options)),
    )
    execute({"redis": module, "redis_url": url})
    (client,) = pubsubs
    with client.pubsub() as listener:
        listener.psubscribe("ai_story:*")
        assert listener.get_message(timeout=5)["type"] == "psubscribe"
        with RedisStreamPublisher(PROJECT, STAGE) as publisher:
            publisher.publish_token("Hello")
            assert publisher.flush()
        assert '"content":"Hello"' in listener.get_message(timeout=5)["data"]
    client.close()
    client.connection_pool.disconnect()


def batches(execute: Callable[[Names], Names], _: str) -> None:
    subscriber = follower()
    with RedisStreamPublisher(PROJECT, STAGE) as publisher:
        execute({"tokens": TOKENS, "publisher": publisher})
        publisher.publish_done()
    assert rebuilt(messages_of(subscriber)) == TEXT


def a_time_limit(execute: Callable[[Names], Names], _: str) -> None:
    with follower() as subscriber:
        execute({"subscriber": subscriber})


def nothing_published(execute: Callable[[Names], Names], _: str) -> None:
    execute({"RedisStreamPublisher": RedisStreamPublisher, "project_id": PROJECT, "stage_name": STAGE})


def the_logger(execute: Callable[[Names], Names], _: str) -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    try:
        assert execute({})["logger"].name == "stagecast"
    finally:
        root.setLevel(before[0])
        root.handlers[:] = before[1]


def the_unit_test(execute: Callable[[Names], Names], _: str) -> None:
    execute({})["test_publish_subscribe"]()


RUNS: dict[str, Run] = {
    "def execute_llm_stage": the_task,
    "publish_done(full_text=": a_publisher,
    "base=StageTask": a_stage_task,
    ".listen()": a_reader,
    "for message in subscriber.listen(timeout=300):": a_reader,
    "application = Starlette": an_application,
    "# settings.py": djangos_settings,
    "configure({": the_mapping,
    "redis.from_url(": a_client_of_ones_own,
    "redis.ConnectionPool": a_client_of_ones_own,
    "buffer = []": batches,
    "subscriber.listen(timeout=300)  #": a_time_limit,
    "自动调用close()": nothing_published,
    'getLogger("stagecast")': the_logger,
    "def test_publish_subscribe": the_unit_test,
}
"""How a block is run, by a part of it. The first that fits counts."""


@pytest.mark.parametrize("where", [name for name, code in BLOCKS.items() if "[stagecast" not in code])
def test_a_python_block_runs(where: str, configured: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does what the page says of it; a block that nobody knows fails."""
    monkeypatch.setattr(configuration, "_given", {})
    code = BLOCKS[where]
    run = next(run for sign, run in RUNS.items() if sign in code)

    def execute(names: Names) -> Names:
        exec(compile(code, where, "exec"), names)
        return names

    run(execute, configured.url)


def test_no_way_to_run_a_block_is_left_over() -> None:
    """Each stands for a block that is there."""
    assert [sign for sign in RUNS if not any(sign in code for code in BLOCKS.values())] == []


def test_the_file_is_a_configuration(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The TOML block is loaded, and says what it shows."""
    (code,) = [code for code in BLOCKS.values() if "[stagecast" in code]
    path = tmp_path / "stagecast.toml"
    path.write_text(code, encoding="utf-8")
    monkeypatch.setenv("STAGECAST_CONFIG", str(path))
    for name in ("STAGECAST_BUS", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    loaded = configuration.current()
    shown = tomllib.loads(code)["stagecast"]
    assert (loaded.bus, loaded.limits.log_length) == (shown["bus"], shown["limits"]["log_length"])
    assert loaded.cors.origins == set(shown["cors"]["origins"])
