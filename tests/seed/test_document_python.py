"""Every Python and TOML block of the documents runs, on a real Redis; what a block assumes is given to it here."""

import asyncio
import logging
import tomllib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeAlias

import httpx
import pytest
import redis
from celery import Celery

from stagecast import RedisStreamPublisher, RedisStreamSubscriber
from stagecast.entrypoints import configuration
from tests.reading import Message, rebuilt, told
from tests.seed.documents import blocks
from tests.servers import RedisServer

PROJECT, STAGE = "123", "rewrite"
TOKENS = ["这是", "一段", "流式", "文本", "，", "很", "长", "的", "，", "真的", "很长", "。"]
TEXT = "".join(TOKENS)

Names: TypeAlias = dict[str, Any]
Run: TypeAlias = Callable[[Callable[[Names], Names], str], None]
"""Runs a block: it is called with what executes the block on given names, and with the URL of a real, empty Redis."""


BLOCKS = {block.name: block.text for block in blocks("python", "toml")}


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


def published() -> None:
    """A stage and its pipeline from beginning to end, for readers who come a moment later."""
    with RedisStreamPublisher(PROJECT, STAGE) as publisher:
        publisher.publish_token("Hello")
        publisher.publish_done("Hello")
    with RedisStreamPublisher(PROJECT, "pipeline") as pipeline:
        pipeline.publish_pipeline_done()


def a_reader_of_one_stage(execute: Callable[[Names], Names], _: str) -> None:
    said: list[str] = []
    published()
    execute({"print": said.append})
    assert said == ["收到消息: token", "Token: Hello", "收到消息: done", "完成: Hello"]


def a_reader_of_all_stages(execute: Callable[[Names], Names], _: str) -> None:
    said: list[str] = []
    published()
    execute({"print": said.append, "RedisStreamSubscriber": RedisStreamSubscriber})
    assert said == [
        "阶段: rewrite, 类型: token",
        "阶段: rewrite, 类型: done",
        "阶段: pipeline, 类型: pipeline_done",
    ]


def a_reader_that_closes(execute: Callable[[Names], Names], _: str) -> None:
    seen: list[Message] = []
    published()
    given = {"RedisStreamSubscriber": RedisStreamSubscriber, "project_id": PROJECT, "stage_name": STAGE}
    execute({**given, "process_message": seen.append})
    assert told(seen) == ["token", "done"]
    assert rebuilt(seen) == "Hello"


def an_application(execute: Callable[[Names], Names], _: str) -> None:
    application = execute({})["application"]

    async def statuses() -> list[int]:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            paths = ("/api/v1/sse/projects/1/", "/api/v1/sse/projects/1/stages/rewrite/", "/else")
            return [(await client.head(path)).status_code for path in paths]

    assert asyncio.run(statuses()) == [200, 200, 404]


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
    published()
    with follower() as subscriber:
        listened: list[Message] = []
        execute({"subscriber": SimpleNamespace(listen=lambda timeout: listened.extend(subscriber.listen(timeout)))})
    assert told(listened) == ["token", "done"]


def nothing_published(execute: Callable[[Names], Names], url: str) -> None:
    execute({"RedisStreamPublisher": RedisStreamPublisher, "project_id": PROJECT, "stage_name": STAGE})
    with redis.from_url(url) as client:
        assert client.dbsize() == 0


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
    'publish_done(full_text="Hello World")': a_publisher,
    "publish_done(full_text=publisher.text": a_publisher,
    "base=StageTask": a_stage_task,
    "for message in subscriber.listen(timeout=300):": a_reader_of_one_stage,
    "print(f\"阶段: {message['stage']}": a_reader_of_all_stages,
    "process_message(message)": a_reader_that_closes,
    "application = Starlette": an_application,
    "# settings.py": djangos_settings,
    "configure({": the_mapping,
    "redis.from_url(": a_client_of_ones_own,
    "redis.ConnectionPool": a_client_of_ones_own,
    "buffer = []\nfor": batches,
    "subscriber.listen(timeout=300)  #": a_time_limit,
    "自动调用close()": nothing_published,
    'getLogger("stagecast")': the_logger,
    "def test_publish_subscribe": the_unit_test,
}
"""How a block is run, by a part of it that no other has."""


@pytest.mark.parametrize("where", [name for name, code in BLOCKS.items() if "[stagecast" not in code])
def test_a_python_block_runs(where: str, configured: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does what the page says of it; a block that nobody knows fails."""
    monkeypatch.setattr(configuration, "_given", {})
    code = BLOCKS[where]
    (run,) = [run for sign, run in RUNS.items() if sign in code]

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
