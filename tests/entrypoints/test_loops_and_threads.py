"""One bus under one event loop after another, one publisher and one subscriber in many threads, and green ones."""

import asyncio
import gc
import subprocess
import sys
import threading
from typing import Any

import pytest

from stagecast import RedisStreamPublisher, RedisStreamSubscriber
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits, MessageBus, Snapshot
from stagecast.entrypoints.testing.actors import CODEC, STAGE, Producer
from stagecast.entrypoints.wiring import open_bus
from tests.reading import rebuilt, told
from tests.servers import RedisServer
from tests.waiting import wait_until


@pytest.fixture(params=["memory", "redis"])
def bus(request: pytest.FixtureRequest) -> MessageBus:
    if request.param == "memory":
        return MemoryBus(CODEC, BusLimits())
    server: RedisServer = request.getfixturevalue("any_redis")
    return open_bus(f"{server.url}?client_name=loops")


def test_one_bus_serves_one_loop_after_another(bus: MessageBus, request: pytest.FixtureRequest) -> None:
    """R88: `asyncio.run` three times, and in a thread: it works, and no connection outlives its loop."""
    producer = Producer()
    for number in range(3):
        asyncio.run(producer.write(bus, f"{number} "))
        assert asyncio.run(_text(bus)) == "".join(f"{n} " for n in range(number + 1))
    failures: list[BaseException] = []

    def in_thread() -> None:
        try:
            asyncio.run(producer.write(bus, "thread"))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert failures == []
    gc.collect()  # an unclosed transport would complain, and complaints are errors here
    if not isinstance(bus, MemoryBus):
        server: RedisServer = request.getfixturevalue("any_redis")
        with server.client() as client:
            wait_until(lambda: [one for one in client.client_list() if one["name"] == "loops"] == [])
    assert asyncio.run(_text(bus)) == "0 1 2 thread"
    asyncio.run(bus.aclose())


async def _text(bus: MessageBus) -> str:
    async with bus.subscribe(STAGE) as subscription:
        first = await anext(subscription)
    assert isinstance(first, Snapshot)
    return first.stages["stage"].text


def test_tokens_of_eight_threads_are_one_text(any_redis: RedisServer) -> None:
    """R91: 8 threads publish 1,000 tokens each with one publisher: all are in the text, those of a thread in order."""
    url = any_redis.url
    with (
        RedisStreamSubscriber("threads", "rewrite", bus=url) as subscriber,
        RedisStreamPublisher("threads", "rewrite", bus=url, timeout=20) as publisher,
    ):

        def work(name: str) -> None:
            for number in range(1000):
                assert publisher.publish_token(f"{name}{number} ")

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcdefgh"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert publisher.publish_done()
        messages = list(subscriber.listen(20))
    text = rebuilt(messages)
    assert text == publisher.text
    words = text.split()
    assert len(words) == 8000
    for name in "abcdefgh":
        assert [word for word in words if word[0] == name] == [f"{name}{number}" for number in range(1000)]


def test_an_unclosed_subscriber_is_collected_without_waiting(bus: MessageBus) -> None:
    """R93: the collector may strike while the background loop is busy: it only asks, and takes no lock."""
    subscriber = RedisStreamSubscriber("collected", "rewrite", bus=bus)
    ahead, owner = subscriber._ahead, subscriber._background
    assert ahead is not None
    finalizer: Any = subscriber._finalizer
    busy, go_on = threading.Event(), threading.Event()

    def block() -> None:
        busy.set()
        go_on.wait(20)

    owner.soon(block)
    assert busy.wait(10)
    with ahead._taking, subscriber._opening:
        del subscriber
        gc.collect()
        finalizer()  # where a reference was left somewhere
    assert not finalizer.alive
    go_on.set()
    wait_until(lambda: ahead.is_over)
    owner.call(bus.aclose(), 5)


GREEN = """
import gevent.monkey
gevent.monkey.patch_all()
import sys
import gevent
from stagecast import RedisStreamPublisher, RedisStreamSubscriber

url = sys.argv[1]
first = RedisStreamSubscriber("green", "first", bus=url)
waiting = gevent.spawn(lambda: list(first.listen(3600)))
gevent.sleep(0.05)
with RedisStreamSubscriber("green", "second", bus=url) as second, RedisStreamPublisher("green", "second", bus=url) as p:
    assert p.publish_token("a") and p.publish_done("a")
    assert [m["type"] for m in second.listen(3600)] == ["token", "done"]
assert not waiting.ready()
first.close()
assert waiting.get(timeout=3600) == []
print("all was prompt")
"""


def test_green_threads_close_and_subscribe_while_one_waits(any_redis: RedisServer) -> None:
    """R93: under gevent one waits for an hour; another subscribes, publishes, reads and closes, and the wait ends."""
    command = [sys.executable, "-c", GREEN, any_redis.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "all was prompt\n"), done.stderr
    with RedisStreamSubscriber("green", "second", bus=any_redis.url) as late:
        assert told(late.listen(5)) == ["token", "done"]
