"""RedisStreamPublisher: runs, attempts, and several publishers of one stage."""

import pytest

from stagecast import RedisStreamPublisher, RedisStreamSubscriber
from stagecast.adapters.codec import JsonCodec
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.errors import (
    RunCancelled,
    RunSuperseded,
)
from stagecast.domain.producing import TaskRun
from stagecast.domain.topics import Topic
from stagecast.entrypoints.background import background
from tests.reading import rebuilt, told
from tests.waiting import wait_until

STAGE = "rewrite"


def test_full_text_restarts_a_generator_that_is_entered_again(bus_url: str, project: str) -> None:
    """R59: A generator that starts over gives its own `full_text`: the text begins anew, nothing is doubled."""
    words = ["one ", "two ", "three ", "four ", "five "]
    with (
        RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher,
    ):
        for _ in range(2):  # the first time a rate limit ends it after five tokens
            for end, word in enumerate(words, start=1):
                publisher.publish_token(word, full_text="".join(words[:end]))
                publisher.flush()
        publisher.publish_done(publisher.text)
        messages = list(subscriber.listen(5))
    assert publisher.text == "".join(words)
    assert rebuilt(messages) == "".join(words)


def test_late_attempt_is_fenced(bus_url: str, project: str) -> None:
    """R58: When the second attempt has ended the run, what the first still publishes is refused and never seen."""
    with RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber:
        with RedisStreamPublisher(project, STAGE, bus=bus_url, task=TaskRun(run="r1", task="r1")) as first:
            first.publish_token("first")
            assert first.flush()
            with RedisStreamPublisher(project, STAGE, bus=bus_url, task=TaskRun(run="r1", task="r1")) as second:
                second.publish_token("second")
                assert second.publish_done("second")
                assert (first.attempt, second.attempt) == (1, 2)
            assert first.publish_token(" more") in {True, False}  # it may know already, from its lease
            assert first.publish_error("no") is False
            assert first.superseded
        messages = list(subscriber.listen(5))
        assert subscriber.get_message(0.1) is None
    assert told(messages) == ["token", "reset", "token", "done"]
    assert rebuilt(messages) == "second"


def test_strict_attempt_learns_that_it_is_superseded(project: str) -> None:
    """A strict publisher of an older attempt is stopped by RunSuperseded."""
    bus = MemoryBus(JsonCodec())
    task = TaskRun(run="r1", task="r1")
    with RedisStreamPublisher(project, STAGE, bus=bus, task=task, strict=True) as first:
        first.publish_token("first")
        first.flush()
        with RedisStreamPublisher(project, STAGE, bus=bus, task=TaskRun(run="r1", task="r1")) as second:
            second.publish_token("second")
            second.flush()
        with pytest.raises(RunSuperseded):
            first.publish_done("first")


def test_progress_goes_back_only_with_a_new_attempt(bus_url: str, project: str) -> None:
    """R57: Between 60 % and 0 % of the restarted stage stands a reset with the higher attempt number."""
    with RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber:
        for share in (60, 100):
            with RedisStreamPublisher(project, STAGE, bus=bus_url, task=TaskRun(run="r1", task="r1")) as publisher:
                publisher.publish_token("embedding")
                for percent in range(0, share + 1, 20):
                    publisher.publish_progress(percent, 100)
        publisher = RedisStreamPublisher(project, STAGE, bus=bus_url)
        publisher.publish_done()
        publisher.close()
        messages = list(subscriber.listen(5))
    attempt, highest = 1, -1
    for message in messages:
        if message["type"] == "reset":
            assert isinstance(message["attempt"], int)
            assert message["attempt"] > attempt
            attempt, highest = message["attempt"], -1
        elif message["type"] == "progress":
            assert isinstance(message["progress"], int)
            assert message["progress"] > highest
            highest = message["progress"]
    assert (attempt, highest) == (2, 100)


def test_cancel_reaches_the_publisher(bus_url: str, project: str) -> None:
    """A run that was cancelled shows so on its publisher without the publisher asking, and stops a strict one."""
    from stagecast.entrypoints.wiring import shared_bus

    with RedisStreamPublisher(project, STAGE, bus=bus_url, strict=True) as publisher:
        publisher.publish_token("a")
        publisher.flush()
        run = publisher.run_id
        assert run is not None
        assert background().call(shared_bus(bus_url).cancel(Topic(project, STAGE), run), 5)
        wait_until(lambda: publisher.cancelled)
        with pytest.raises(RunCancelled):
            publisher.publish_token("b")


def test_publishers_in_parallel_share_a_run(bus_url: str, project: str) -> None:
    """Several publishers of one stage belong to one run: the items of all count, one `done` ends it."""
    with RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber:
        first = RedisStreamPublisher(project, STAGE, bus=bus_url)
        first.publish_stage_update("processing", 0)
        first.flush()
        others = [RedisStreamPublisher(project, STAGE, bus=bus_url) for _ in range(3)]
        for number, other in enumerate(others):
            other.publish_item_completed("image", number)
            assert other.flush()
        assert len({publisher.run_id for publisher in [first, *others]}) == 1
        first.publish_done()
        for publisher in [first, *others]:
            assert publisher.close()
        assert told(subscriber.listen(5)) == ["processing", *["item_completed"] * 3, "done"]
