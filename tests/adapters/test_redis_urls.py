"""What a URL may name: a socket, Sentinels, a node of a cluster; and what is refused, with which words."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from stagecast import RedisStreamPublisher, RedisStreamSubscriber, open_bus
from stagecast.adapters.redis.sentinel import parse_sentinel_url
from stagecast.domain.errors import NotConfigured
from stagecast.domain.topics import Topic
from stagecast.entrypoints.background import background
from stagecast.entrypoints.sse import create_app
from stagecast.entrypoints.testing.actors import Producer
from tests.reading import rebuilt
from tests.servers import RedisKind, available_redis_kinds, free_port, start_redis
from tests.sse.browser import request
from tests.sse.serving import served
from tests.waiting import eventually

FORM = "the URL of Sentinels has the form"


def streams(url: str) -> None:
    """Publish a stage and follow it."""
    bus = open_bus(url)
    try:
        with (
            RedisStreamSubscriber("123", "rewrite", bus=bus) as subscriber,
            RedisStreamPublisher("123", "rewrite", bus=bus) as publisher,
        ):
            assert publisher.publish_token("text")
            assert publisher.publish_done(publisher.text)
            assert rebuilt(list(subscriber.listen(5))) == "text"
    finally:
        background().call(bus.aclose(), 5)


def test_a_unix_socket_streams(redis_kind: RedisKind, tmp_path: Any) -> None:
    """A `unix://` URL is a bus like any other."""
    socket = tmp_path / "redis.sock"
    with start_redis(redis_kind, extra_args=["--unixsocket", str(socket)]):
        streams(f"unix://{socket}?db=1")


@pytest.mark.parametrize(
    ("url", "hosts", "service", "options", "of_sentinels"),
    [
        ("redis+sentinel://one/main", [("one", 26379)], "main", {"ssl": False}, {}),
        (
            "redis+sentinel://user:p%40ss@one:1,[::1]:2,three/main/5?sentinel_password=s%26t&socket_timeout=3",
            [("one", 1), ("::1", 2), ("three", 26379)],
            "main",
            {"ssl": False, "db": 5, "username": "user", "password": "p@ss", "socket_timeout": 3.0},
            {"password": "s&t"},
        ),
        (
            "rediss+sentinel://one:1,two:2/main?ssl_cert_reqs=none&sentinel_username=s&sentinel_socket_timeout=0.5",
            [("one", 1), ("two", 2)],
            "main",
            {"ssl": True, "ssl_cert_reqs": "none"},
            {"ssl": True, "ssl_cert_reqs": "none", "username": "s", "socket_timeout": 0.5},
        ),
    ],
)
def test_a_url_names_sentinels(
    url: str, hosts: list[Any], service: str, options: dict[str, Any], of_sentinels: dict[str, Any]
) -> None:
    """Hosts, the master's name, the database, and options for Redis and, with their prefix, for the Sentinels."""
    found = parse_sentinel_url(url)
    assert (found.hosts, found.service, found.options) == (hosts, service, options)
    assert {"ssl": False, **of_sentinels} == found.sentinel_options
    assert open_bus(url) is not None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis+sentinel://one:1,two:2", FORM),
        ("redis+sentinel://one:1,two:2/", FORM),
        ("redis+sentinel://user:secret@one:1,,two:2/main", FORM),
        ("redis+sentinel://one:port/main", FORM),
        ("redis+sentinel:///main", FORM),
        ("redis+sentinel://one/main/zero", FORM),
        ("redis+sentinel://one/main/0/1", FORM),
        ("redis+sentinel://user:sec#ret@one/main", "percent-encoded"),
        ("redis+sentinel://one/main?socket_timeout=secret", "Invalid value for 'socket_timeout'"),
        ("redis+sentinel://one/main?sentinel_socket_timeout=secret", "not the URL of a Redis"),
        ("redis+sentinel://one/main?sentinel_color=secret", "an option in the URL's query is none of redis-py's"),
        ("redis://one/0?color=secret", "an option in the URL's query is none of redis-py's"),
        ("sentinel://:secret@one:1;sentinel://two:2", "Celery's, does not name the master: set STAGECAST_BUS"),
        ("redis+cluster://one:1", "Redis Cluster is not supported"),
    ],
)
def test_a_malformed_url_is_refused_when_it_is_opened(url: str, message: str) -> None:
    """R19: What cannot be used is NotConfigured, says what to write, and tells no part of a password."""
    with pytest.raises(NotConfigured, match=message) as refusal:
        open_bus(url)
    assert "sec" not in str(refusal.value)


@contextmanager
def node(kind: RedisKind) -> Iterator[redis.Redis]:
    """A client of a server in cluster mode, which has no slots yet."""
    own = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    with start_redis(kind, extra_args=own) as server, server.client() as client:
        yield client


def address(client: redis.Redis) -> tuple[str, int]:
    options = client.get_connection_kwargs()
    return options["host"], options["port"]


def cluster(client: redis.Redis, *command: str | int) -> Any:
    return client.execute_command("CLUSTER " + str(command[0]), *command[1:])  # type: ignore[no-untyped-call]


def known(client: redis.Redis, name: str) -> object:
    return cluster(client, "INFO")[f"cluster_{name}"]


async def refused(client: redis.Redis) -> None:
    bus = open_bus("redis://{}:{}/0".format(*address(client)))
    with served(create_app(bus)) as server:
        try:
            with pytest.raises(NotConfigured, match="of a Redis Cluster whose slots are not all in one master"):
                async with bus.subscribe(Topic("p")):
                    pass
            with pytest.raises(NotConfigured, match="of a Redis Cluster"):
                await Producer(Topic("p", "s")).write(bus, "text")
            async with request(server.port, "/readyz") as response:
                assert response.status == 503
        finally:
            await bus.aclose()


async def test_a_server_in_cluster_mode_without_slots_is_refused(redis_kind: RedisKind) -> None:
    """R19: Nothing could be kept there: publishers and readers are told in words, servers are not ready."""
    with node(redis_kind) as client:
        await refused(client)


async def test_a_cluster_is_refused_unless_one_master_has_all() -> None:
    """R19: With the slots of half the projects elsewhere it is refused at the first use; one master with all works."""
    kind = available_redis_kinds()[0]
    with node(kind) as client, node(kind) as other:
        cluster(client, "ADDSLOTSRANGE", 0, 8191)
        cluster(other, "ADDSLOTSRANGE", 8192, 16383)
        cluster(client, "MEET", *address(other), str(other.config_get("cluster-port")["cluster-port"]))
        await eventually(lambda: known(client, "size") == "2", 20)
        await refused(client)
    with node(kind) as client:
        cluster(client, "ADDSLOTSRANGE", 0, 16383)
        await eventually(lambda: known(client, "state") == "ok", 20)
        await asyncio.to_thread(streams, "redis://{}:{}/0".format(*address(client)))
