"""The data of README.zh-CN.md: its messages are the codec's own, its nginx block is part of the shipped file."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import crossplane
import pytest

from stagecast.domain.events import CustomEvent
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import EdgeSettings
from stagecast.entrypoints.wiring import CODEC
from tests.seed.documents import ROOT, Block, blocks, the_block

OF_THE_EDGE = {"connected", "stream_end", "reset"}
"""What the server says itself, and is no event of the log."""
FOR_READERS = {"token": {"id", "full_text", "offset"}}
"""Fields that a reader gets besides the line of the log."""
EVENTS = [block for block in blocks("json") if json.loads(block.text)["type"] not in OF_THE_EDGE]
DEFAULTS = {"proxy_cache": ["off"]}
"""What nginx does without being told."""


@pytest.mark.parametrize("block", [pytest.param(block, id=block.name) for block in EVENTS])
def test_a_message_has_exactly_the_fields_of_the_codec(block: Block) -> None:
    """Each message of an event is one of its type, and comes back with the fields that stand in the document."""
    shown: dict[str, Any] = json.loads(block.text)
    event = CODEC.parse(Topic(shown["project_id"], shown["stage"]), shown, shown["timestamp"])
    assert not isinstance(event, CustomEvent)
    assert set(event.extra) <= FOR_READERS.get(shown["type"], set())
    line = json.loads(CODEC.encode(event).partition(b"\t")[2])
    ours = FOR_READERS.get(shown["type"], set())
    assert {name: value for name, value in line.items() if name not in ours} == {
        name: value for name, value in shown.items() if name not in ours
    }


def directives(text: str, folder: Path) -> dict[str, list[str]]:
    """The directives of a configuration's locations, with their values, also those set around them."""
    path = folder / "nginx.conf"
    path.write_text(text)
    parsed: dict[str, Any] = crossplane.parse(str(path), single=True)
    assert parsed["status"] == "ok", parsed["errors"]
    found: dict[str, list[str]] = {}
    waiting = list(parsed["config"][0]["parsed"])
    while waiting:
        one = waiting.pop(0)
        if one["directive"].startswith("proxy_"):
            found[" ".join([one["directive"], *one["args"][:-1]])] = one["args"][-1:]
        waiting += one.get("block", [])
    return found


def test_nginx_directives_are_shipped(tmp_path: Path) -> None:
    """The block is valid; the shipped configuration, which is run, sets what it sets, and waits no shorter."""
    block = the_block("nginx").text
    wanted = directives(f"events {{}} http {{ server {{ {block} }} }}", tmp_path)
    shipped = DEFAULTS | directives((ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8"), tmp_path)
    assert wanted.pop("proxy_pass")[0].startswith("http://")
    (wait,), (shipped_wait,) = wanted.pop("proxy_read_timeout"), shipped["proxy_read_timeout"]
    assert EdgeSettings().heartbeat < int(wait.rstrip("s")) <= int(shipped_wait.rstrip("s"))
    assert {"proxy_buffering", "proxy_http_version"} <= set(wanted)
    assert {name: shipped.get(name) for name in wanted} == wanted


def test_what_to_change_is_one_import() -> None:
    """The page on moving shows, in both languages, the old line and the new one; the new one can be had."""
    found = list(blocks("diff"))
    assert len(found) == 2
    for block in found:
        old, new = block.text.splitlines()
        assert (old[0], new[0]) == ("-", "+")
        assert old[1:].replace("core.redis", "stagecast") == new[1:]
        names: dict[str, object] = {}
        exec(new[1:], names)
        assert {"RedisStreamPublisher", "RedisStreamSubscriber"} <= set(names)


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_extras_are_those_of_the_package(page: str) -> None:
    """Where the installation is shown, all extras are listed, and no other."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    (line,) = [one for one in lines if "pip install 'stagecast[all]" in one]
    listed = re.findall(r"[a-z]+", line.partition("#")[2].replace("extras", ""))
    assert sorted(listed) == sorted(set(project["optional-dependencies"]) - {"all"})
