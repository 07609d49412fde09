"""Publishing a stage: what is accepted, and what is refused."""

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.errors import (
    BusUnavailable,
    EventTooLarge,
    InvalidEvent,
    InvalidTopic,
    PublishFailed,
    RunCancelled,
    RunSuperseded,
    StagecastError,
)
from stagecast.domain.events import (
    CustomEvent,
    Event,
    ItemCompleted,
    PipelineCompleted,
    PipelineFailed,
    ProgressReported,
    StageCompleted,
    StageFailed,
    StageRefreshed,
    StageUpdated,
    TokenEmitted,
)
from stagecast.domain.publishing import StagePublisher
from stagecast.domain.topics import Topic
from tests.domain.flaky import CODEC, LIMITS, FlakyBus, bus, idle, publishing, stage

__all__ = ["bus"]


class TestAccepting:
    """What may be handed over."""

    async def test_every_method_sends_its_event(self, bus: FlakyBus) -> None:
        """The seed's methods, with the publisher's topic, time and headers."""
        async with publishing(bus, headers={"trace": "1"}, clock=lambda: 7.0) as publisher:
            assert publisher.publish_stage_update("processing", 10, "working", retry_count=1)
            assert publisher.publish_token("text")
            assert publisher.publish_progress(1, 3, "one")
            assert publisher.publish_item_completed("image", 1, {"url": "/1"})
            assert publisher.publish_done("text", {"n": 1})
            assert publisher.publish_stage_completed({"n": 2})
            assert publisher.publish_pipeline_done({"n": 3})
            assert publisher.publish_pipeline_error(ValueError("boom"), {"n": 4})
            assert await publisher.flush(5)
        common: dict[str, Any] = {"project": "123", "stage": "rewrite", "timestamp": 7.0, "headers": {"trace": "1"}}
        assert [event for batch in bus.batches for event in batch.events] == [
            StageUpdated(status="processing", progress=10, message="working", retry_count=1, **common),
            TokenEmitted(content="text", offset=0, **common),
            ProgressReported(current=1, total=3, progress=33, item_name="one", **common),
            ItemCompleted(item_type="image", sequence_number=1, metadata={"url": "/1"}, **common),
            StageCompleted(full_text=None, metadata={"n": 1}, **common),
            StageRefreshed(metadata={"n": 2}, **common),
            PipelineCompleted(metadata={"n": 3}, **common),
            PipelineFailed(error="boom", metadata={"n": 4}, **common),
        ]

    async def test_errors_are_told_as_text(self, bus: FlakyBus) -> None:
        """An exception's text, a retry count, a reason."""
        async with publishing(bus) as publisher:
            assert publisher.publish_error(TimeoutError("API调用失败"), 2, reason="timeout")
            assert await publisher.flush(5)
        failed = (await stage(bus)).slots["outcome"]
        assert isinstance(failed, StageFailed)
        assert (failed.error, failed.retry_count, failed.reason) == ("API调用失败", 2, "timeout")

    async def test_done_has_its_own_text_or_none(self, bus: FlakyBus) -> None:
        """A text that the tokens made travels once; another one is sent."""
        for text, sent in (("ab", None), ("other", "other"), ("", "")):
            async with publishing(bus) as publisher:
                publisher.publish_token("a", "a")
                publisher.publish_token("b", "ab")
                publisher.publish_done(text)
                assert await publisher.flush(5)
            done = (await stage(bus)).slots["outcome"]
            assert isinstance(done, StageCompleted)
            assert done.full_text == sent

    @pytest.mark.parametrize(
        ("method", "arguments"),
        [
            ("publish_stage_update", (None,)),
            ("publish_stage_update", (7,)),
            ("publish_stage_update", ("processing", "50")),
            ("publish_stage_update", ("processing", True)),
            ("publish_stage_update", ("processing", 1, 2)),
            ("publish_progress", ("1", 2)),
            ("publish_progress", (1, 2, 3)),
            ("publish_item_completed", (None, 1)),
            ("publish_item_completed", ("image", "1")),
            ("publish_item_completed", ("image", 1.5)),
            ("publish_item_completed", ("image", 1, ["x"])),
            ("publish_item_completed", ("image", 1, {"x": b"bytes"})),
            ("publish_done", (7,)),
            ("publish_done", ("text", "metadata")),
            ("publish_error", ("x", "1")),
            ("publish_pipeline_done", ("x",)),
            ("publish", (["x"],)),
            ("publish", ({"type": "x", "value": b"bytes"},)),
            ("publish_token", (None,)),
            ("publish_token", (7,)),
            ("publish_token", (b"bytes",)),
            ("publish_token", ("x", 7)),
        ],
        ids=str,
    )
    async def test_values_of_a_wrong_type_are_refused(self, bus: FlakyBus, method: str, arguments: Any) -> None:
        """False, or InvalidEvent where strict; nothing is sent, and the next event goes through."""
        async with publishing(bus) as publisher, publishing(bus, strict=True) as strict:
            assert getattr(publisher, method)(*arguments) is False
            with pytest.raises(InvalidEvent):
                getattr(strict, method)(*arguments)
            assert publisher.publish_token("fine")
            assert await publisher.flush(5)
            assert await strict.flush(5)
        assert [event.type for batch in bus.batches for event in batch.events] == ["token"]

    async def test_numbers_take_their_plain_form(self, bus: FlakyBus) -> None:
        """Decimals become numbers, NaN becomes null, and a percentage is a whole number within bounds."""
        async with publishing(bus) as publisher:
            assert publisher.publish_progress(Decimal(1), Decimal(3))  # type: ignore[arg-type]
            assert publisher.publish_progress(math.nan, 3)
            assert publisher.publish_progress(5, 0)
            assert publisher.publish_progress(7, 5)
            assert publisher.publish_stage_update("x", Decimal("12.5"))  # type: ignore[arg-type]
            assert await publisher.flush(5)
        sent = [event for batch in bus.batches for event in batch.events]
        shares = [(event.current, event.progress) for event in sent if isinstance(event, ProgressReported)]
        assert shares == [(1.0, 33), (None, 0), (5, 0), (7, 100)]

    async def test_an_error_that_has_no_text_is_still_told(self, bus: FlakyBus) -> None:
        """Publishing a failure never fails for the failure's own faults."""

        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no text")

        async with publishing(bus) as publisher:
            assert publisher.publish_error(Mute(), None)  # type: ignore[arg-type]
            assert await publisher.flush(5)
        failed = (await stage(bus)).slots["outcome"]
        assert isinstance(failed, StageFailed)
        assert (failed.error, failed.retry_count) == ("Mute", 0)

    async def test_events_that_are_too_large_are_refused(self, bus: FlakyBus) -> None:
        """EventTooLarge, at once and for that event alone."""
        async with publishing(bus) as publisher, publishing(bus, strict=True) as strict:
            for large in ("x" * 20_000, '"' * 6_000):
                assert not publisher.publish_token(large)
                assert not publisher.publish_done(large)
                assert not publisher.publish({"type": "x", "text": large})
                with pytest.raises(EventTooLarge):
                    strict.publish_token(large)
                with pytest.raises(EventTooLarge):
                    strict.publish_error(large)
            assert publisher.publish_token("fine")
            assert await publisher.flush(5)
        assert (await stage(bus)).text == "fine"

    async def test_a_text_may_grow_beyond_the_largest_event(self, bus: FlakyBus) -> None:
        """The limit is for events; `done` with the whole text does not carry it."""
        async with publishing(bus) as publisher:
            text = ""
            for _ in range(20):
                text += "x" * 1000
                assert publisher.publish_token("x" * 1000, text)
            assert publisher.publish_done(text)
            assert await publisher.flush(5)
        assert (await stage(bus)).text == text

    async def test_raw_messages_count_as_their_type(self, bus: FlakyBus) -> None:
        """A message of a known type is that event, a token's `full_text` included; another passes through."""
        async with publishing(bus) as publisher:
            assert publisher.publish({"type": "stage_update", "status": "processing"})
            assert publisher.publish({"type": "token", "content": "b", "full_text": "ab"})
            assert publisher.publish({"type": "thumbnail", "url": "/1.png"})
            assert publisher.publish({"type": ["odd"]})
            assert publisher.publish({"type": "done"})
            assert await publisher.flush(5)
        known = await stage(bus)
        assert (known.text, known.in_progress) == ("ab", False)
        custom = [event for batch in bus.batches for event in batch.events if isinstance(event, CustomEvent)]
        assert [event.message["type"] for event in custom] == ["thumbnail", ["odd"]]
        assert all("timestamp" in event.message for event in custom)

    async def test_headers_are_made_fit(self, bus: FlakyBus) -> None:
        """A header that is no text, or broken text, costs no event."""
        async with publishing(bus, headers={"number": 7, "lone": "\ud800"}) as publisher:
            assert publisher.publish_token("text")
            assert publisher.publish_done("text")
            assert await publisher.flush(5)
        (event, *_) = (event for batch in bus.batches for event in batch.events)
        assert event.headers == {"number": "7", "lone": "\ufffd"}
        assert not (await stage(bus)).in_progress

    def test_a_publisher_is_for_one_stage(self, bus: FlakyBus) -> None:
        """A project's topic names no stage to publish to."""
        with pytest.raises(InvalidTopic, match="one stage"):
            StagePublisher(bus, Topic("123"), CODEC)

    @given(st.data())
    def test_whatever_is_accepted_is_read_back_as_its_type(self, data: st.DataObject) -> None:
        """No accepted event comes out of the wire as something unknown: a `done` is always an end."""
        odd = st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(max_size=5),
            st.sampled_from(["timeout", "quota", b"x", Decimal("NaN"), {"a": math.inf}, ["x"], object()]),
        )
        publisher = idle(FlakyBus(MemoryBus(CODEC, LIMITS)))
        calls: list[Any] = [
            lambda: publisher.publish_stage_update(
                data.draw(odd), data.draw(odd), data.draw(odd), retry_count=data.draw(odd)
            ),
            lambda: publisher.publish_progress(data.draw(odd), data.draw(odd), data.draw(odd)),
            lambda: publisher.publish_item_completed(data.draw(odd), data.draw(odd), data.draw(odd)),
            lambda: publisher.publish_done(data.draw(odd), data.draw(odd)),
            lambda: publisher.publish_error(data.draw(odd), data.draw(odd), reason=data.draw(odd)),
            lambda: publisher.publish_pipeline_error(data.draw(odd), data.draw(odd)),
            lambda: publisher.publish_token(data.draw(odd), data.draw(odd)),
        ]
        accepted = [call() for call in data.draw(st.lists(st.sampled_from(calls), min_size=1, max_size=4))]
        sent = list[Event]()
        while batch := publisher._outbox.take():
            sent += [sending.event for sending in batch]
        for event in sent:
            assert type(CODEC.decode(CODEC.encode(event))) is type(event)
        assert len(sent) <= len(accepted)


def test_refusals_have_a_common_type() -> None:
    """A caller may catch StagecastError for all of them."""
    for error in (BusUnavailable, EventTooLarge, InvalidEvent, PublishFailed, RunCancelled, RunSuperseded):
        assert issubclass(error, StagecastError)
