"""Most batches go to the script without the lines that it writes by itself; it asks for them where it needs them."""

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

import pytest
from attrs import evolve

from stagecast.adapters.codec import JsonCodec
from stagecast.adapters.redis.bus import RedisBus, open_redis_bus
from stagecast.adapters.redis.link import Argument, Link
from stagecast.adapters.redis.state import Keys
from stagecast.domain.bus import Batch, BusLimits, Receipt
from stagecast.domain.events import CustomEvent, Event, ProgressReported, StageCompleted, TokenEmitted
from stagecast.domain.topics import Topic
from tests.servers import RedisServer

COMMON: dict[str, Any] = {"stage": "rewrite", "timestamp": 1.0}


class Publishing:
    """One producer, and which of its calls of the script carried lines."""

    def __init__(self, bus: RedisBus) -> None:
        self.bus, self.project = bus, uuid4().hex
        self.batch = Batch(topic=Topic(self.project, "rewrite"), producer="p", first=1, new_run="r")
        self.calls: list[bool] = []

    async def publish(self, *events: Event, **changes: Any) -> Receipt:
        receipt = await self.bus.publish(evolve(self.batch, events=events, **changes))
        self.batch = evolve(
            self.batch, first=self.batch.first + receipt.applied, run=receipt.run, acknowledged=receipt.position
        )
        return receipt

    def token(self, content: str, offset: int) -> TokenEmitted:
        return TokenEmitted(project=self.project, content=content, offset=offset, **COMMON)

    def progress(self) -> ProgressReported:
        return ProgressReported(project=self.project, current=1, total=2, progress=50, **COMMON)

    def done(self) -> StageCompleted:
        return StageCompleted(project=self.project, full_text=None, **COMMON)


@pytest.fixture
async def producer(any_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Publishing]:
    bus = open_redis_bus(any_redis.url, JsonCodec(), BusLimits())
    publishing, asked = Publishing(bus), Link.ledger

    async def counted(link: Link, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        publishing.calls.append(bool(arguments[9]))
        return await asked(link, keys, arguments)

    monkeypatch.setattr(Link, "ledger", counted)
    yield publishing
    await bus.aclose()


async def test_what_may_open_or_end_a_run_brings_the_lines(producer: Publishing) -> None:
    """The first batch, a beginning, an end and a release; nothing in between, nor a sign of life."""
    await producer.publish(producer.progress())
    await producer.publish(producer.token("a", 0))
    await producer.publish(producer.token("b", 1), producer.progress())
    await producer.publish()
    await producer.publish(producer.token("c", 2), producer.done())
    await producer.publish(producer.progress())
    await producer.publish(release=True)
    assert producer.calls == [True, True, False, False, True, False, True]


@pytest.mark.parametrize("lost", ["everything", "log", "meta", "text:rewrite"])
async def test_the_script_asks_for_them_after_a_loss(producer: Publishing, any_redis: RedisServer, lost: str) -> None:
    """Nothing is written before it has them: the batch is asked for what was lost, and applied once."""
    await producer.publish(producer.token("a", 0))
    producer.calls.clear()
    with any_redis.client() as client:
        keys = client.keys("stagecast:*") if lost == "everything" else [Keys(producer.project)._key(lost)]
        client.delete(*keys)
    receipt = await producer.publish(producer.token("b", 1))
    assert producer.calls == [False, True]
    assert (receipt.applied, receipt.need, receipt.run) == (0, "state", "r")
    assert (await producer.publish(producer.token("ab", 0))).need is None


async def test_what_the_script_writes_is_whole(producer: Publishing, any_redis: RedisServer) -> None:
    """A run is opened anew by a brief batch: of one presumed dead, and after a loss which others came back from."""
    project, stage = producer.project, "rewrite"
    await producer.publish(producer.token("a", 0))
    with any_redis.client() as client:
        lease: Any = client.hget(Keys(project).leases, f"{stage}:p")
        beat = lease.decode().split()[1]
        await producer.bus._lapse(project, stage, "r", {"p": beat})
        assert (await producer.publish(producer.token("b", 1))).applied == 1
        client.delete(*client.keys("stagecast:*"))
        await producer.bus.publish(evolve(producer.batch, producer="q", first=1, acknowledged=None, events=()))
        other = Batch(topic=Topic(project, "other"), producer="o", first=1, new_run="x")
        await producer.bus.publish(evolve(other, events=(evolve(producer.token("a", 0), stage="other"),)))
        assert (await producer.publish(producer.token("c", 2))).need == "state"
        entries: Any = client.xrange(Keys(project).log)
        lines = [fields[b"e"] for _, fields in entries]
    assert [type(producer.bus.codec.decode(line)).__name__ for line in lines].count("RunOpened") == 2
    assert all(type(producer.bus.codec.decode(line)) is not CustomEvent for line in lines), lines


async def test_keys_that_come_later_live_no_longer(producer: Publishing, any_redis: RedisServer) -> None:
    """A time to live is not set with each batch, but every key has the same, also one that is made anew."""
    await producer.publish(producer.token("a", 0), producer.done())
    with any_redis.client() as client:
        client.delete(Keys(producer.project).producers)
        await producer.publish(producer.token("b", 0), new_run="r2", run=None)
        await producer.publish(producer.token("c", 1))
        keys: Any = client.keys(f"stagecast:1:{{{producer.project}}}:*")
        lives = {key: client.pexpiretime(key) for key in keys}
    assert len(lives) == 5
    assert len(set(lives.values())) == 1, lives
    assert min(lives.values()) > 0
