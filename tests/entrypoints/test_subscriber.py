"""RedisStreamSubscriber: what a caller of `listen` and `get_message` gets."""

import asyncio
import gc
import socket
import threading
import types
from collections.abc import Awaitable, Generator
from typing import Any

import pytest

from stagecast import RedisStreamPublisher, RedisStreamSubscriber, open_bus
from stagecast.adapters.codec import JsonCodec
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import Snapshot
from stagecast.domain.errors import BusUnavailable, InvalidPosition, InvalidTopic, StagecastError
from stagecast.domain.topics import Topic
from stagecast.entrypoints.background import background
from tests.reading import drained, rebuilt, told
from tests.servers import RedisServer, free_port
from tests.waiting import wait_until

STAGE = "rewrite"


def test_listen_after_a_lapse_receives_what_comes_later(bus_url: str, project: str) -> None:
    """R02: `listen` that lapses is a normal outcome; the same subscriber receives the later message."""
    with (
        RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher,
    ):
        assert list(subscriber.listen(timeout=0.2)) == []
        assert list(subscriber.listen(timeout=0.2)) == []
        publisher.publish_token("late")
        publisher.publish_done("late")
        assert told(subscriber.listen(timeout=5)) == ["token", "done"]


def test_silence_on_a_short_socket_timeout_is_silence(any_redis: RedisServer, project: str) -> None:
    """R02: A socket timeout in the URL that is shorter than the silence ends neither `listen` nor the subscription."""
    url = f"{any_redis.url}?socket_timeout=0.2"
    with (
        RedisStreamSubscriber(project, STAGE, bus=url) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=url) as publisher,
    ):
        assert list(subscriber.listen(timeout=0.7)) == []
        publisher.publish_token("late")
        message = subscriber.get_message(5)
    assert message is not None
    assert message["content"] == "late"


def test_get_message_gives_none_for_silence(bus_url: str, project: str) -> None:
    """R03: Plain silence is None, never an exception."""
    with RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber:
        assert subscriber.get_message(timeout=0.2) is None
        assert subscriber.get_message(timeout=0) is None


@types.coroutine
def counted(awaitable: Awaitable[Any], resumptions: list[int]) -> Generator[Any, Any, Any]:
    """Await `awaitable` and note each time that it is resumed."""
    steps = awaitable.__await__()
    while True:
        resumptions.append(1)
        try:
            waited_for = next(steps)
        except StopIteration as end:
            return end.value
        yield waited_for


async def test_waiting_on_the_async_bus_polls_nothing(bus_url: str, project: str) -> None:
    """R06: A reader of a silent topic is hardly ever resumed, while a ticker beside it keeps its pace."""
    resumptions: list[int] = []
    bus = open_bus(bus_url)
    async with bus.subscribe(Topic(project, STAGE)) as subscription:
        assert isinstance(await anext(subscription), Snapshot)

        async def read() -> Any:
            return await counted(anext(subscription), resumptions)

        reader = asyncio.create_task(read())
        for _ in range(100):
            await asyncio.sleep(0.01)
        assert len(resumptions) <= 5  # the memory bus looks at its leases once a second
        reader.cancel()
        await asyncio.wait([reader])
    await bus.aclose()


def test_burst_comes_out_complete(bus_url: str, project: str) -> None:
    """R08: 1,000 tokens of one burst all come out in order before the first None."""
    with (
        RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher,
    ):
        words = [f"{n} " for n in range(1000)]
        for word in words:
            publisher.publish_token(word)
        assert publisher.flush()
        messages = drained(subscriber)
    assert [message["content"] for message in messages] == words
    assert rebuilt(messages) == "".join(words)


def test_paced_events_on_a_short_socket_timeout(any_redis: RedisServer, project: str) -> None:
    """R09: Events further apart than the socket timeout all arrive, on one stable connection of the feed."""
    url = f"{any_redis.url}?socket_timeout=0.1&client_name=paced"
    feeds: list[list[str]] = []
    with (
        RedisStreamSubscriber(project, STAGE, bus=url) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=url) as publisher,
        any_redis.client() as client,
    ):
        for number in range(5):
            assert subscriber.get_message(timeout=0.25) is None
            publisher.publish_progress(number, 5)
            message = subscriber.get_message(5)
            assert message is not None
            assert message["current"] == number
            feeds.append([one["id"] for one in client.client_list(_type="pubsub") if one["name"] == "paced"])
    assert len(feeds[0]) == 1
    assert feeds == [feeds[0]] * 5, "the feed's connection was made anew"


def test_each_message_goes_to_one_of_two_threads(bus_url: str, project: str) -> None:
    """R91: Two threads may read one subscriber; each message goes to one of them, and both see the end."""
    shares: list[list[Any]] = [[], []]
    with (
        RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher,
    ):

        def read(share: list[Any]) -> None:
            share += [message["id"] for message in subscriber.listen(10)]

        readers = [threading.Thread(target=read, args=(share,)) for share in shares]
        for reader in readers:
            reader.start()
        for number in range(500):
            publisher.publish_token(f"{number} ")
        publisher.publish_done(publisher.text)
        for reader in readers:
            reader.join(10)
    found = shares[0] + shares[1]
    assert len(found) == len(set(found)) == 501


def test_listen_ends_with_its_topic(bus_url: str, project: str) -> None:
    """A stage's `listen` ends after done or error, a project's only after pipeline_done or pipeline_error."""
    with (
        RedisStreamSubscriber(project, STAGE, bus=bus_url) as stage,
        RedisStreamSubscriber(project, bus=bus_url) as whole,
        RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher,
        RedisStreamPublisher(project, "pipeline", bus=bus_url) as pipeline,
    ):
        publisher.publish_stage_update("processing")
        publisher.publish_error("no", retry_count=1)
        pipeline.publish_pipeline_error("no")
        assert told(stage.listen(5)) == ["processing", "error"]
        messages = list(whole.listen(5))
    assert told(messages) == ["processing", "error", "pipeline_error"]
    assert [message["channel"] for message in messages] == [
        f"ai_story:project:{project}:stage:{STAGE}",
        f"ai_story:project:{project}:stage:{STAGE}",
        f"ai_story:project:{project}:stage:pipeline",
    ]


def test_subscriber_outlives_the_end(bus_url: str, project: str) -> None:
    """After the end the same subscriber gives late news of the run, and `listen` follows the next run."""
    with (
        RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher,
    ):
        publisher.publish_token("first")
        publisher.publish_done("first")
        publisher.publish_stage_completed({"pages": 2})
        assert told(subscriber.listen(5)) == ["token", "done"]
        late = subscriber.get_message(5)
        assert late is not None
        assert (late["type"], late["metadata"]) == ("stage_completed", {"pages": 2})
        publisher.publish_token("second")
        publisher.publish_done("second")
        messages = list(subscriber.listen(5))
    assert told(messages) == ["reset", "token", "done"]
    assert rebuilt(messages) == "second"


def test_skipped_stage_ends_the_listener(bus_url: str, project: str) -> None:
    """A final stage_update outside a run ends the stage: nobody waits for a skipped stage."""
    with (
        RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher,
    ):
        publisher.publish_stage_update("skipped", 100)
        assert told(subscriber.listen(10)) == ["skipped"]


def test_close_ends_a_waiting_reader(bus_url: str, project: str) -> None:
    """R93: Closing in one thread ends the wait of another at once, and later use is refused clearly."""
    subscriber = RedisStreamSubscriber(project, STAGE, bus=bus_url)
    found: list[Any] = []
    reader = threading.Thread(target=lambda: found.append(list(subscriber.listen(60))))
    reader.start()
    subscriber.close()
    subscriber.close()
    reader.join(10)
    assert not reader.is_alive()
    assert found in ([[]], [])  # an empty list, or refused because the thread came later than the close
    with pytest.raises(StagecastError, match="closed"):
        subscriber.get_message()


def test_unclosed_subscriber_is_freed_by_the_collector(project: str) -> None:
    """R93: A subscriber that nobody closed gives its subscription back when it is collected."""
    bus = MemoryBus(JsonCodec())
    subscriber = RedisStreamSubscriber(project, STAGE, bus=bus)
    assert bus._subscriptions
    subscriber.loop = subscriber  # type: ignore[attr-defined]  # only the collector can free it
    del subscriber
    gc.collect()
    wait_until(lambda: not bus._subscriptions)


def test_slow_reader_costs_bounded_memory(bus_url: str, project: str) -> None:
    """A reader that does not read holds a bounded number of messages, and still misses nothing."""
    with (
        RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher,
    ):
        for number in range(3000):
            publisher.publish_token(f"{number} ")
        publisher.publish_done(publisher.text)
        ahead = subscriber._ahead
        assert ahead is not None
        wait_until(lambda: len(ahead._ready) >= 64)
        assert len(ahead._ready) < 600
        assert rebuilt(subscriber.listen(10)) == publisher.text


def test_unreachable_bus_raises_at_construction(project: str) -> None:
    """A subscriber that cannot subscribe says so within its bound."""
    with pytest.raises(BusUnavailable):
        RedisStreamSubscriber(project, STAGE, bus=f"redis://127.0.0.1:{free_port()}/0", timeout=2)


def test_silent_bus_raises_at_construction(project: str) -> None:
    """A bus that accepts the connection and never answers ends the constructor within its bound."""
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        port = black_hole.getsockname()[1]
        with pytest.raises(BusUnavailable, match="within"):
            RedisStreamSubscriber(project, STAGE, bus=f"redis://127.0.0.1:{port}/0", timeout=0.3)


def test_bad_ids_are_refused() -> None:
    """Ids and positions are checked before anything is opened."""
    with pytest.raises(InvalidTopic):
        RedisStreamSubscriber("a:b", STAGE, bus="memory://")
    with pytest.raises(InvalidPosition):
        RedisStreamSubscriber("a", STAGE, bus="memory://", last_id="yesterday")


def test_closed_bus_is_reported(project: str) -> None:
    """A bus that is closed under a subscriber is an error, not silence."""
    bus = MemoryBus(JsonCodec())
    with RedisStreamSubscriber(project, STAGE, bus=bus) as subscriber:
        background().call(bus.aclose(), 5)
        with pytest.raises(BusUnavailable):
            subscriber.get_message(5)


def test_memory_and_hand_made_bus_are_apart(project: str) -> None:
    """A bus object given by hand is used as it is."""
    bus = MemoryBus(JsonCodec())
    with (
        RedisStreamSubscriber(project, STAGE, bus="memory://") as elsewhere,
        RedisStreamSubscriber(project, STAGE, bus=bus) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=bus) as publisher,
    ):
        publisher.publish_token("x")
        assert subscriber.get_message(5) is not None
        assert elsewhere.get_message(0) is None
    assert bus.liveness(Topic(project)).active == frozenset()
