"""Redis is black-holed or down for the whole of a task: what that costs the task, and what is said about it."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from attrs import define

from stagecast import RedisStreamPublisher
from stagecast.domain.errors import PublishFailed
from tests.faults.proxy import Proxy
from tests.servers import RedisServer, free_port
from tests.waiting import wait_until

WORDS = [f"{number} " for number in range(100)]
FEW = 20
"""Attempts to connect: far less than one for each of the 100 words, and more than a back-off makes in a few seconds."""


@define
class Absence:
    """A Redis that is not there."""

    proxy: Proxy

    @property
    def url(self) -> str:
        """Impatient, so that there is time for many attempts."""
        return f"{self.proxy.url}?socket_timeout=0.2&socket_connect_timeout=0.2"

    @property
    def attempts(self) -> int:
        """How often somebody tried to connect, or to send something on a connection that was there."""
        return self.proxy.connections + self.proxy.held


def black_hole(redis: RedisServer) -> Proxy:
    return Proxy(redis.port)


def down(_: RedisServer) -> Proxy:
    return Proxy(free_port())


@pytest.fixture(params=[black_hole, down])
def absent(request: pytest.FixtureRequest, any_redis: RedisServer) -> Iterator[Absence]:
    """A Redis that accepts connections and never answers, and one behind which nobody listens."""
    make: Callable[[RedisServer], Proxy] = request.param
    with make(any_redis) as proxy:
        if make is black_hole:
            proxy.black_hole()
        yield Absence(proxy)


@pytest.fixture
def project() -> str:
    return uuid4().hex


def task(publisher: RedisStreamPublisher) -> str:
    """What users write: it looks at no answer."""
    for word in WORDS:
        publisher.publish_token(word)
    publisher.publish_done(full_text=publisher.text)
    return publisher.text


def test_a_task_without_redis(absent: Absence, project: str, caplog: pytest.LogCaptureFixture) -> None:
    """R151: its result is right, each wait is bounded, Redis is tried a few times, and one warning says so."""
    with caplog.at_level(logging.WARNING, "stagecast"):
        publisher = RedisStreamPublisher(project, "rewrite", bus=absent.url, timeout=0.7)
        with publisher:
            assert task(publisher) == "".join(WORDS)
            wait_until(lambda: absent.attempts >= 3)
            assert publisher.publish_done() is False
            assert publisher.flush(0.1) is False
    publisher._delivery.done.cancel()  # nobody will ever be there
    assert absent.attempts <= FEW
    ours = [record.message for record in caplog.records if project in record.message]
    assert len(ours) == 1
    assert "the bus is away, events wait" in ours[0]


def test_strictness_is_opt_in(absent: Absence, project: str) -> None:
    """R151: only with `strict=True` does an end that nobody has acknowledged raise; tokens still wait for nobody."""
    publisher = RedisStreamPublisher(project, "rewrite", bus=absent.url, timeout=0.2, strict=True)
    assert all(publisher.publish_token(word) for word in WORDS)
    with pytest.raises(PublishFailed, match="not acknowledged"):
        publisher.publish_done()
    with pytest.raises(PublishFailed, match="not acknowledged"):
        publisher.flush(0.1)
    assert publisher.close() is False
    publisher._delivery.done.cancel()


def test_what_comes_to_nothing_is_delivered_when_redis_is_back(any_redis: RedisServer, project: str) -> None:
    """R151: an end that was answered with False was not given up: Redis gets all of it when it is back."""
    with Proxy(any_redis.port) as proxy:
        proxy.black_hole()
        with RedisStreamPublisher(project, "rewrite", bus=f"{proxy.url}?socket_timeout=0.3", timeout=0.3) as publisher:
            task(publisher)
        assert not publisher._delivery.done.done()
        proxy.heal()
        wait_until(publisher._delivery.done.done, 20)
    with any_redis.client() as client:
        assert client.get(f"stagecast:1:{{{project}}}:text:rewrite") == "".join(WORDS).encode()


PROGRAM = """
import logging, sys
from stagecast import RedisStreamPublisher
logging.basicConfig(format="%(levelname)s %(message)s")
with RedisStreamPublisher("p", "rewrite", bus=sys.argv[1], timeout=0.5) as publisher:
    for number in range(100):
        publisher.publish_token(f"{number} ")
    publisher.publish_done(full_text=publisher.text)
print(publisher.text)
"""


def test_a_process_that_ends_without_redis(any_redis: RedisServer) -> None:
    """R151: its output and its exit code are right, it ends by itself, and says once that something is lost."""
    with Proxy(any_redis.port) as proxy:
        proxy.black_hole()
        command = [sys.executable, "-W", "error", "-c", PROGRAM, proxy.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        attempts = proxy.connections + proxy.held
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{''.join(WORDS)}\n"
    said = done.stderr.splitlines()
    assert [line.split()[0] for line in said] == ["WARNING", "ERROR"], done.stderr
    assert "the bus is away, events wait" in said[0]
    assert "nobody will deliver" in said[1]
    assert 1 <= attempts <= FEW
