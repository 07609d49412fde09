"""Every line of the documents' shell, HTTP and redis.conf blocks is tried, as far as fixed ports allow."""

import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from starlette.routing import Match

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.entrypoints import cli, configuration
from stagecast.entrypoints.sse import create_app
from stagecast.entrypoints.wiring import CODEC
from tests.seed.test_documents import BLOCK, PAGES, ROOT
from tests.servers import RedisServer

RUN_BY_OTHERS = {"python", "toml", "json", "javascript", "vue", "nginx", "diff"}
SHELL = {"bash", "console", "http", "conf"}


def lines() -> Iterator[tuple[str, str]]:
    for page in (*PAGES, ROOT / "README.md"):
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            if match[1] not in SHELL:
                continue
            for number, line in enumerate(match[2].replace("\\\n", " ").splitlines()):
                if line.strip() and not line.startswith("#"):
                    yield f"{page.name}:{text.count(chr(10), 0, match.start()) + 2 + number}", line


def make(words: list[str], _: RedisServer) -> None:
    assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def pip(words: list[str], _: RedisServer) -> None:
    (extra,) = re.findall(r"^stagecast\[(\w+)\]", words[2])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extra in project["optional-dependencies"]


def stagecast(words: list[str], _: RedisServer) -> None:
    cli._parser().parse_args(words[1:])


def uvicorn_(words: list[str], _: RedisServer) -> None:
    program: Any = uvicorn.main
    context = program.make_context("uvicorn", words[1:])
    assert context.params["app"] == "stagecast.entrypoints.sse:app"


def redis_cli(words: list[str], server: RedisServer) -> None:
    with server.client() as client:
        if words[1] == "psubscribe":
            with client.pubsub() as listener:
                listener.psubscribe(words[2])
                message = listener.get_message(timeout=5)
                assert message is not None
                assert message["type"] == "psubscribe"
        else:
            answer = client.execute_command(*words[1:])
            assert answer is not None
            assert words[1] != "ping" or answer in {True, b"PONG"}


def redis_conf(words: list[str], _: RedisServer) -> None:
    shipped = [shlex.split(line, comments=True) for line in (ROOT / "deploy" / "redis.conf").read_text().splitlines()]
    assert words in shipped


def get(words: list[str], _: RedisServer) -> None:
    path = words[1].replace("{project_id}", "123").replace("{stage_name}", "rewrite")
    scope = {"type": "http", "method": "GET", "path": path, "headers": []}
    assert any(route.matches(scope)[0] is Match.FULL for route in create_app(MemoryBus(CODEC, BusLimits())).routes)


def in_the_integration_test(words: list[str], _: RedisServer) -> None:
    """Those run for real, on free ports: redis-server, the worker of the queue llm, curl -N."""
    source = (ROOT / "tests" / "seed" / "test_integration.py").read_text()
    wanted = {"celery": '"-Q", "llm"', "curl": '["curl", "-sN"', "redis-server": "start_redis("}[words[0]]
    assert wanted in source


COMMANDS: dict[str, Callable[[list[str], RedisServer], None]] = {
    "make": make,
    "pip": pip,
    "stagecast": stagecast,
    "uvicorn": uvicorn_,
    "redis-cli": redis_cli,
    "save": redis_conf,
    "appendonly": redis_conf,
    "GET": get,
    "celery": in_the_integration_test,
    "curl": in_the_integration_test,
    "redis-server": in_the_integration_test,
}


@pytest.mark.parametrize(("where", "line"), [pytest.param(where, line, id=where) for where, line in lines()])
def test_a_line_can_be_run(where: str, line: str, any_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands and their options exist, settings are settings, paths are routes; an unknown line fails."""
    if line.startswith("Authorization: Bearer "):
        return
    words = shlex.split(line, comments=True)
    if words[0] == "export":
        words = words[1:]
    while words and re.match(r"[A-Z_]+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        known = {configuration.variable_of(path) for path in configuration.TYPES}
        assert name in known | set(configuration.SEED_VARIABLES)
        monkeypatch.setenv(name, value)
        configuration.current()
    if words:
        COMMANDS[words[0]](words, any_redis)


def test_every_block_is_run_by_somebody() -> None:
    """A block in a language that no test runs fails; one without a language is a drawing or a name."""
    for page in (*PAGES, ROOT / "README.md"):
        for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
            assert match[1] in RUN_BY_OTHERS | SHELL | {""}, match[0]
