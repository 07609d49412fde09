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
from stagecast.entrypoints.wiring import CODEC
from tests.seed.test_documents import blocks

ROOT = Path(__file__).parents[2]
OF_THE_EDGE = {"connected", "stream_end", "reset"}
"""What the server says itself, and is no event of the log."""
FOR_READERS = {"token": {"id", "full_text", "offset"}}
"""Fields that a reader gets besides the line of the log."""
EVENTS = [(name, text) for name, text in blocks("json") if json.loads(text)["type"] not in OF_THE_EDGE]


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in EVENTS])
def test_a_message_has_exactly_the_fields_of_the_codec(text: str) -> None:
    """Each message of an event is one of its type, and comes back with the fields that stand in the document."""
    shown: dict[str, Any] = json.loads(text)
    event = CODEC.parse(Topic(shown["project_id"], shown["stage"]), shown, shown["timestamp"])
    assert not isinstance(event, CustomEvent)
    assert set(event.extra) <= FOR_READERS.get(shown["type"], set())
    line = json.loads(CODEC.encode(event).partition(b"\t")[2])
    ours = FOR_READERS.get(shown["type"], set())
    assert {name: value for name, value in line.items() if name not in ours} == {
        name: value for name, value in shown.items() if name not in ours
    }


def directives(text: str, folder: Path) -> set[str]:
    """The names of the directives of a configuration's locations."""
    path = folder / "nginx.conf"
    path.write_text(text)
    parsed: dict[str, Any] = crossplane.parse(str(path), single=True)
    assert parsed["status"] == "ok", parsed["errors"]
    found: set[str] = set()
    waiting = [(one, False) for one in parsed["config"][0]["parsed"]]
    while waiting:
        one, is_inside = waiting.pop()
        found |= {one["directive"]} if is_inside else set()
        inside = is_inside or one["directive"] == "location"
        waiting += [(inner, inside) for inner in one.get("block", [])]
    return found


def test_nginx_directives_are_shipped(tmp_path: Path) -> None:
    """The block is valid, and the shipped configuration sets all that it sets or leaves the default that it names."""
    ((_, block),) = blocks("nginx")
    wanted = directives(f"events {{}} http {{ server {{ {block} }} }}", tmp_path)
    shipped = directives((ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8"), tmp_path)
    assert {"proxy_pass", "proxy_buffering", "proxy_http_version", "proxy_read_timeout"} <= wanted
    assert wanted - shipped <= {"proxy_cache"}, "off is nginx's default"


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_extras_are_those_of_the_package(page: str) -> None:
    """Where the installation is shown, all extras are listed, and no other."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    (line,) = [one for one in lines if "pip install 'stagecast[all]" in one]
    listed = re.findall(r"[a-z]+", line.partition("#")[2].replace("extras", ""))
    assert sorted(listed) == sorted(set(project["optional-dependencies"]) - {"all"})
