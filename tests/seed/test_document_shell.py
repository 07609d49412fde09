"""Every line of the documents' shell, HTTP and redis.conf blocks is tried, as far as fixed ports allow."""

import re
import shlex
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from starlette.routing import Match

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.entrypoints import cli, configuration
from stagecast.entrypoints.sse import create_app
from stagecast.entrypoints.wiring import CODEC
from tests.seed import test_integration
from tests.seed.documents import ROOT, Block, blocks
from tests.servers import RedisServer


def lines(block: Block) -> list[tuple[str, str]]:
    """What there is to run, each with its place."""
    numbered = enumerate(block.text.replace("\\\n", " ").splitlines(), block.line)
    return [(f"{block.page}:{number}", line) for number, line in numbered if line.strip() and not line.startswith("#")]


LINES = [one for block in blocks("bash", "console", "http", "conf") for one in lines(block)]


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
    """redis-server, the worker, the server and curl run for real in test_integration.py, by the page's own lines."""
    assert words in [shlex.split(line, comments=True) for line in test_integration.page_lines()]


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


@pytest.mark.parametrize(("where", "line"), [pytest.param(*one, id=one[0]) for one in LINES])
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
