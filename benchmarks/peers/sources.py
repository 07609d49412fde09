"""Who publishes tokens for a measure: what a peer has to give, and how they are paced. Standard library only."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

STAMP = "@%019d@"
Publish: TypeAlias = Callable[[str, str], object]
"""Publishes a piece of text (second) on a topic (first)."""


@dataclass(frozen=True)
class Place:
    """Where a server runs and what it is to use."""

    port: int
    redis_url: str
    redis_port: int


class Order:
    """Which tokens to publish."""

    def __init__(self, topics: list[str], count: int, rate: float = 0.0, content: str = "", padding: int = 0) -> None:
        self.topics = topics
        """In turn."""
        self.count = count
        """Over all topics."""
        self.rate = rate
        """A second, over all topics; 0 for as fast as it goes."""
        self.content = content
        """The text of each token; empty for the clock."""
        self.padding = padding
        """Characters more behind the clock."""

    def as_json(self) -> dict[str, Any]:
        return vars(self)


class Source(Protocol):
    """What publishes in a measure."""

    def tokens(self, order: Order) -> None:
        """Publish; return when everything is on its way."""
        ...


class Paced:
    """A source of one call a token."""

    def __init__(self, publish: Publish, flush: Callable[[], object] = lambda: None) -> None:
        self._publish, self._flush = publish, flush

    def tokens(self, order: Order) -> None:
        publish, topics, padding = self._publish, order.topics, "x" * order.padding
        began = time.monotonic()
        for n in range(order.count):
            if order.rate and (wait := began + n / order.rate - time.monotonic()) > 0:
                time.sleep(wait)
            publish(topics[n % len(topics)], order.content or STAMP % time.monotonic_ns() + padding)
        self._flush()


def message(topic: str, content: str) -> dict[str, Any]:
    """The seed's token message."""
    return {"type": "token", "content": content, "stage": "s", "project_id": topic, "timestamp": time.time()}
