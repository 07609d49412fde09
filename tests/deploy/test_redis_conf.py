"""The shipped redis.conf in each kind of server: it starts, does what it says, and stagecast streams through it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from redis.exceptions import NoPermissionError

from stagecast import RedisStreamPublisher, RedisStreamSubscriber
from stagecast.entrypoints.commands.doctor import examined
from stagecast.entrypoints.commands.findings import Finding
from tests.reading import rebuilt, told
from tests.servers import RedisKind, RedisServer, free_port, start_redis

SHIPPED = Path(__file__).parents[2] / "deploy" / "redis.conf"
BYTES = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}
PASSWORD = uuid4().hex


def directives() -> dict[str, str]:
    """Name and value of each directive."""
    lines = [line for line in SHIPPED.read_text().splitlines() if line and not line.startswith("#")]
    return {name: value.strip('"') for name, _, value in (line.partition(" ") for line in lines)}


@contextmanager
def shipped_redis(kind: RedisKind, *arguments: str) -> Iterator[RedisServer]:
    """A server with the shipped file, but for its port. Persistence, on before the file is read, is off by its word."""
    port = free_port()
    persistent = ["--save", "60 1", "--appendonly", "yes"]
    shipped = ["--include", str(SHIPPED), "--port", str(port)]
    with start_redis(kind, port=port, extra_args=[*persistent, *shipped, *arguments]) as server:
        yield server


@pytest.fixture(scope="module")
def server(redis_kind: RedisKind) -> Iterator[RedisServer]:
    with shipped_redis(redis_kind) as running:
        yield running


def of_bytes(text: str) -> str:
    """A configuration's value as the server writes it: sizes in bytes."""
    return re.sub(r"(\d+)(kb|mb|gb)\b", lambda size: str(int(size[1]) * BYTES[size[2]]), text)


def doubtful(url: str) -> list[Finding]:
    """What the doctor finds that is not ok; how slow a busy machine is does not count."""
    findings = list(examined(url, None))
    assert {finding.check for finding in findings} >= {"memory", "output buffer", "connections", "keys", "round trip"}
    slow = {"ping", "clock"} | {finding.check for finding in findings if "arrived after" in finding.found}
    return [finding for finding in findings if finding.verdict != "ok" and finding.check not in slow]


def test_every_line_has_its_reason() -> None:
    """No directive without a comment directly above it."""
    blocks = SHIPPED.read_text().strip().split("\n\n")
    found = 0
    for block in blocks:
        *reasons, last = block.splitlines()
        assert all(line.startswith("# ") for line in reasons)
        if not last.startswith("#"):
            found += 1
            assert reasons, f"{last} has no reason"
    assert found == len(directives())
    assert directives().keys() >= {"save", "appendonly", "timeout", "tcp-keepalive", "maxclients", "maxmemory-policy"}


def test_the_server_does_what_the_file_says(server: RedisServer) -> None:
    """Each directive is in force, on each kind of server."""
    with server.client() as client:
        found = {name: client.config_get(name)[name] for name in directives()}
    classes = str(found.pop("client-output-buffer-limit"))
    expected = {name: of_bytes(value) for name, value in directives().items()}
    assert of_bytes(expected.pop("client-output-buffer-limit")) in classes
    expected["port"] = str(server.port)
    assert found == expected


def test_the_doctor_finds_no_fault(server: RedisServer) -> None:
    """Every check of it is ok: policy, buffers, connections, and the round trip."""
    assert doubtful(server.url) == []


def test_the_doctor_would_find_faults(redis_kind: RedisKind) -> None:
    """With another policy and a small buffer it complains."""
    worse = ["--maxmemory-policy", "allkeys-lru", "--client-output-buffer-limit", "pubsub 1kb 1kb 1"]
    with shipped_redis(redis_kind, *worse) as server:
        problems = {finding.check for finding in examined(server.url, None) if finding.verdict == "problem"}
    assert {"memory", "output buffer"} <= problems


def test_a_stage_streams_through_it_by_the_rights_in_the_file(redis_kind: RedisKind) -> None:
    """The user that the file suggests may do what stagecast does, the doctor too, and nothing to others' keys."""
    line = next(line for line in SHIPPED.read_text().splitlines() if line.startswith("# user stagecast "))
    name, *rights = line.removeprefix("# user ").replace("CHANGE", PASSWORD).split()
    with shipped_redis(redis_kind) as server:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", name, *rights)
        url = f"redis://{name}:{PASSWORD}@127.0.0.1:{server.port}/0"
        with RedisStreamSubscriber("p", "rewrite", bus=url) as subscriber:
            with RedisStreamPublisher("p", "rewrite", bus=url, strict=True) as publisher:
                for token in ("Nothing ", "is ", "lost."):
                    publisher.publish_token(token)
                publisher.publish_done(full_text=publisher.text)
            messages = list(subscriber.listen(10))
        assert told(messages) == ["token", "done"]
        assert rebuilt(messages) == "Nothing is lost."
        assert doubtful(url) == []
        with server.client() as client:
            client.execute_command("AUTH", name, PASSWORD)
            with pytest.raises(NoPermissionError):
                client.set("celery", "x")
