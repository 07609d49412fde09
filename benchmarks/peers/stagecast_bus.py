"""stagecast's publishers: one a project, or the bus itself where there are very many projects."""

import asyncio
from uuid import uuid4

from attrs import define, evolve

from stagecast import RedisStreamPublisher, open_bus
from stagecast.domain.bus import Batch
from stagecast.domain.events import TokenEmitted
from stagecast.domain.topics import Topic

from .sources import Order, Paced, Place, message

MANY = 300
"""Projects beyond which one process doesn't make a publisher for each: they would be many workers' in reality."""


class Publishers:
    """`RedisStreamPublisher` as a Celery task uses it."""

    def __init__(self, url: str, linger: float | None = None) -> None:
        self._url, self._linger = url, linger
        self._publishers: dict[str, RedisStreamPublisher] = {}

    def publish(self, topic: str, content: str) -> None:
        if (publisher := self._publishers.get(topic)) is None:
            publisher = self._publishers[topic] = RedisStreamPublisher(topic, "s", bus=self._url, linger=self._linger)
        publisher.publish_token(content)

    def flush(self) -> None:
        for publisher in self._publishers.values():
            publisher.flush(60)


@define
class _Stage:
    batch: Batch
    length: int = 0


class Batches:
    """One batch a token, straight to the bus: no thread, and no lease that somebody would have to renew."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._bus = open_bus(url)
        self._stages: dict[str, _Stage] = {}

    def publish(self, topic: str, content: str) -> None:
        if (stage := self._stages.get(topic)) is None:
            first = Batch(topic=Topic.of(topic, "s"), producer=uuid4().hex, first=1, new_run=uuid4().hex, release=True)
            stage = self._stages[topic] = _Stage(first)
        now: float = message(topic, content)["timestamp"]
        event = TokenEmitted(project=topic, stage="s", timestamp=now, content=content, offset=stage.length)
        receipt = self._loop.run_until_complete(self._bus.publish(evolve(stage.batch, events=(event,))))
        stage.length += len(content)
        stage.batch = evolve(stage.batch, first=stage.batch.first + 1, run=receipt.run, acknowledged=receipt.position)


class Source:
    """Batches where there are very many projects, else publishers.

    Where delays are measured (each token has the clock) publishers do not linger: it is the server that is measured
    then, with a write for each token. Where bytes are, they are as they come.
    """

    def __init__(self, url: str) -> None:
        publishers, quick, batches = Publishers(url), Publishers(url, linger=0), Batches(url)
        self._quick, self._few = Paced(quick.publish, quick.flush), Paced(publishers.publish, publishers.flush)
        self._many = Paced(batches.publish)

    def tokens(self, order: Order) -> None:
        source = self._few if order.content else self._quick
        (self._many if len(order.topics) > MANY else source).tokens(order)


def open_source(place: Place) -> Source:
    return Source(place.redis_url)
