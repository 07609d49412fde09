"""RedisStreamSubscriber: what one is shown who comes late, or comes back."""

import random

from stagecast import RedisStreamPublisher, RedisStreamSubscriber
from stagecast.adapters.codec import JsonCodec
from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from tests.reading import drained, rebuilt, told

STAGE = "rewrite"


def test_viewer_of_any_moment_sees_the_run_from_its_start(bus_url: str, project: str) -> None:
    """R25: Whenever a viewer comes, the first message is the run's start, and nothing of the run before is shown."""
    for number in range(20):
        stage = f"stage{number}"
        with RedisStreamPublisher(project, stage, bus=bus_url) as publisher:
            publisher.publish_stage_update("processing", 0, "before")
            publisher.publish_token("of the run before")
            publisher.publish_done("of the run before")
        with RedisStreamPublisher(project, stage, bus=bus_url) as publisher:
            publisher.publish_stage_update("processing", 0, "now")
            for _ in range(random.randrange(5)):
                publisher.publish_token("now ")
            publisher.flush()
            with RedisStreamSubscriber(project, stage, bus=bus_url) as subscriber:
                publisher.publish_token("end")
                publisher.publish_done(publisher.text)
                messages = list(subscriber.listen(5))
        assert (messages[0]["type"], messages[0]["message"]) == ("stage_update", "now")
        assert rebuilt(messages) == publisher.text


def test_viewer_of_a_quiet_task_learns_its_state(bus_url: str, project: str) -> None:
    """R29: Who connects to a task that says nothing more learns its status, text and progress at once."""
    with RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher:
        publisher.publish_stage_update("processing", 10, "working")
        publisher.publish_token("so far")
        publisher.publish_progress(1, 4, "image 1")
        publisher.flush()
        with RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber:
            messages = drained(subscriber)
    assert told(messages) == ["processing", "token", "progress"]
    assert rebuilt(messages) == "so far"


def test_two_viewers_with_one_last_id_get_the_same(bus_url: str, project: str) -> None:
    """R63: Two subscribers that resume after one id get the same messages with the same ids, exclusive of it."""
    with (
        RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher,
        RedisStreamSubscriber(project, STAGE, bus=bus_url) as first,
    ):
        for word in "abcd":
            publisher.publish_token(word)
        publisher.publish_done("abcd")
        ids = [message["id"] for message in first.listen(5)]
    with (
        RedisStreamSubscriber(project, STAGE, bus=bus_url, last_id=str(ids[1])) as one,
        RedisStreamSubscriber(project, STAGE, bus=bus_url, last_id=str(ids[1])) as other,
    ):
        assert [message["id"] for message in one.listen(5)] == ids[2:]
        assert [message["id"] for message in other.listen(5)] == ids[2:]


def test_unsubscribe_then_subscribe_goes_on_where_it_was(bus_url: str, project: str) -> None:
    """What was published while the subscriber was not subscribed is not lost to it."""
    with (
        RedisStreamSubscriber(project, STAGE, bus=bus_url) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher,
    ):
        publisher.publish_token("a")
        first = subscriber.get_message(5)
        assert first is not None
        assert subscriber.last_id == first["id"]
        subscriber.unsubscribe()
        publisher.publish_token("b")
        publisher.flush()
        subscriber.subscribe()
        publisher.publish_token("c")
        messages = drained(subscriber)
    assert [message["content"] for message in messages] == ["b", "c"]


def test_resuming_shows_the_whole_text_with_each_token(bus_url: str, project: str) -> None:
    """Who resumes gets exactly the rest, and with each token the text from its beginning, beyond UCS-2 too."""
    words = ["你好", "😀", "a", "b😀", "c"]
    with (
        RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher,
        RedisStreamSubscriber(project, STAGE, bus=bus_url) as first,
    ):
        for word in words:
            publisher.publish_token(word)
        publisher.flush()
        ids = [message["id"] for message in drained(first)]
        with RedisStreamSubscriber(project, STAGE, bus=bus_url, last_id=str(ids[1])) as late:
            publisher.publish_token("end")
            publisher.publish_done(publisher.text)
            messages = list(late.listen(5))
    assert [message["content"] for message in messages[:-1]] == [*words[2:], "end"]
    assert [message["full_text"] for message in messages[:-1]] == [
        "".join(words[:3]),
        "".join(words[:4]),
        "".join(words),
        publisher.text,
    ]


def test_resuming_after_a_new_run_shows_only_that(bus_url: str, project: str) -> None:
    """A resumed subscriber is told of the new run by a reset, and nothing of the rest of the old one."""
    with (
        RedisStreamPublisher(project, STAGE, bus=bus_url) as publisher,
        RedisStreamSubscriber(project, STAGE, bus=bus_url) as first,
    ):
        publisher.publish_token("old")
        old = first.get_message(5)
        assert old is not None
        publisher.publish_token(" rest")
        publisher.publish_done("old rest")
        publisher.publish_token("new")
        publisher.publish_done("new")
    with RedisStreamSubscriber(project, STAGE, bus=bus_url, last_id=str(old["id"])) as late:
        messages = list(late.listen(5))
    assert told(messages) == ["reset", "token", "done"]
    assert rebuilt(messages) == "new"


def test_resuming_in_another_life_is_a_reset_and_then_lost(project: str) -> None:
    """R37: Who resumes after the backend lost everything is told so, and not left waiting for a run that is gone."""
    bus = MemoryBus(JsonCodec(), BusLimits(lease=0.3))
    with RedisStreamSubscriber(project, STAGE, bus=bus) as subscriber:
        with RedisStreamPublisher(project, STAGE, bus=bus) as publisher:
            publisher.publish_token("gone")
        message = subscriber.get_message(5)
    assert message is not None
    bus.lose_everything()
    with RedisStreamSubscriber(project, STAGE, bus=bus, last_id=str(message["id"])) as subscriber:
        assert [message["reason"] for message in subscriber.listen(10)] == ["epoch", "lost"]
