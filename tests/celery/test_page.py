"""docs/celery-and-redis.md: the tests that it cites exist, and Redis holds the keys that it lists for six hours."""

import ast
import re
from pathlib import Path
from typing import Any

from stagecast import RedisStreamPublisher
from stagecast.domain.bus import BusLimits
from stagecast.entrypoints.configuration import TYPES, variable_of
from tests.servers import RedisServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "celery-and-redis.md").read_text(encoding="utf-8")


def test_cited_tests_exist() -> None:
    """A renamed test is renamed on the page too; links lead somewhere."""
    cited = set(re.findall(r"`((?:tests|src)/[\w/]+\.py)::(\w+)`", PAGE))
    assert len(cited) > 30
    for file, name in cited:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in names, f"{file}::{name}"
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link


def test_settings_of_the_page_exist() -> None:
    """Each variable that the page names is one."""
    named = set(re.findall(r"STAGECAST_\w+", PAGE))
    assert named
    assert named <= {variable_of(path) for path in TYPES}


def test_the_keys_are_those_of_the_page(any_redis: RedisServer) -> None:
    """A run in progress has each key of the table, of its type, and no other; all expire together, in six hours."""
    rows = dict(re.findall(r"^\| `(stagecast:[^`]+)` \| (\w+) \|", PAGE, re.MULTILINE))
    with RedisStreamPublisher("123", "rewrite", bus=any_redis.url) as publisher:
        publisher.publish_stage_update("processing", 0)
        publisher.publish_token("text")
        publisher.publish_item_completed("image", 1)
        assert publisher.flush(5)
        with any_redis.client() as client:
            keys: list[Any] = list(client.scan_iter("stagecast:*"))
            types: list[Any] = [client.type(key) for key in keys]
            held = {key.decode(): kind.decode() for key, kind in zip(keys, types, strict=True)}
            ends = {client.pexpiretime(key) for key in held}
            (now, _) = client.time()
    assert held == rows
    assert len(ends) == 1
    (end,) = ends
    life = BusLimits().time_to_live
    assert life == 6 * 3600
    assert 0.98 * life < end / 1000 - now <= life + 1
