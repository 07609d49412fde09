"""A master, two replicas and the three Sentinels that watch them: real processes, each on a free port of loopback."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import redis
from attrs import frozen

from tests.servers import RedisKind, RedisServer, free_port, start_redis
from tests.waiting import wait_until

NAME = "main"
DOWN_AFTER = 0.5
"""Seconds of silence after which a Sentinel takes a server for down."""
SECONDS = 40.0


class SentinelServer(RedisServer):
    """One Sentinel, told of the master at `master`; it keeps what it learns in a file of its folder."""

    def __init__(self, kind: RedisKind, folder: Path, master: int) -> None:
        super().__init__(kind, free_port(), folder, [])
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f'dir "{folder}"',
            f"sentinel monitor {NAME} 127.0.0.1 {master} 2",
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER * 1000:.0f}",
            f"sentinel failover-timeout {NAME} 1000",
        ]
        configuration = folder / "sentinel.conf"
        configuration.write_text("\n".join([*lines, ""]))
        self._command = [self._command[0], str(configuration), "--sentinel"]


@frozen
class Trio:
    """Servers of data, the first of them the first master, and the Sentinels."""

    servers: list[RedisServer]
    sentinels: list[SentinelServer]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{hosts}/{NAME}/0"

    def told(self, one: SentinelServer) -> dict[str, Any]:
        """What a Sentinel knows of the master."""
        with one.client() as client:
            known: Any = client.sentinel_master(NAME)
            return dict(known)

    @property
    def master(self) -> RedisServer:
        """Whom most Sentinels name."""
        ports = sorted(self.told(one)["port"] for one in self.sentinels)
        return next(server for server in self.servers if server.port == ports[1])

    def others(self, server: RedisServer) -> list[RedisServer]:
        return [one for one in self.servers if one is not server]

    def ready(self) -> bool:
        """Whether each Sentinel knows the other two and both replicas, which have the master's data."""
        for one in self.sentinels:
            known = self.told(one)
            if (
                not known["is_master"]
                or known["is_sdown"]
                or (known["num-slaves"], known["num-other-sentinels"]) != (2, 2)
            ):
                return False
        return all(self.follows(one) for one in self.others(self.master))

    def follows(self, server: RedisServer) -> bool:
        """Whether `server` is a replica of the master, and has its data."""
        try:
            told = replication(server)
        except redis.ConnectionError:  # Sentinels kill the connections to what they demote
            return False
        expected = ("slave", self.master.port, "up")
        return (told["role"], told.get("master_port"), told.get("master_link_status")) == expected


def replication(server: RedisServer) -> dict[str, Any]:
    """What `server` tells of its part."""
    with server.client() as client:
        told: dict[str, Any] = client.info("replication")
        return told


@contextmanager
def sentinel(kind: RedisKind, master: int) -> Iterator[SentinelServer]:
    """One running Sentinel."""
    with TemporaryDirectory(prefix="stagecast-sentinel-") as folder:
        server = SentinelServer(kind, Path(folder), master)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def sentinel_trio(kind: RedisKind) -> Iterator[Trio]:
    """The six servers, ready for a failover."""
    with ExitStack() as stack:
        common = ["--repl-diskless-sync-delay", "0"]
        master = stack.enter_context(start_redis(kind, extra_args=common))
        replica = ["--replicaof", f"127.0.0.1 {master.port}"]
        servers = [master, *(stack.enter_context(start_redis(kind, extra_args=[*common, *replica])) for _ in range(2))]
        trio = Trio(servers, [stack.enter_context(sentinel(kind, master.port)) for _ in range(3)])
        wait_until(trio.ready, SECONDS)
        yield trio
