"""A text that knows where each of its pieces belongs, published token by token, with the journal beside it."""

import os
import random
import time
from collections.abc import Callable

from attrs import frozen

from stagecast import RedisStreamPublisher

from .journal import Journal

FILLERS = ("字", "😀 ", "é", "\n", "word ", "→ ", "\u2028", "0")
DELIVERY_SECONDS = 90.0
"""How long an end may take to be acknowledged while things are broken; no fault lasts so long."""


@frozen(kw_only=True)
class Recipe:
    """How a text is to be made."""

    tokens: int
    pause: float = 0.05
    """Seconds between two tokens; some come in bursts without any."""
    size: int = 1
    """How many fillers a token has besides its own name."""
    fails: bool = False


def token(key: str, number: int, chance: random.Random, size: int = 1) -> str:
    """The piece of that number: it says of which text it is and where it stands there."""
    return f"⟦{key}:{number}⟧" + "".join(chance.choices(FILLERS, k=chance.randint(1, 2 * size)))


def publish(
    publisher: RedisStreamPublisher,
    journal: Journal,
    key: str,
    recipe: Recipe,
    chance: random.Random,
    *,
    begun: Callable[[], object] = bool,
) -> str:
    """Publish a whole run; how it ended: done, error, cancelled or superseded. Calls `begun` when the run is known."""
    journal.write(key, project=publisher.project_id, stage=publisher.stage_name, pid=os.getpid())
    publisher.publish_stage_update("processing")
    if publisher.flush(5):
        journal.write(key, acknowledged="text")
        begun()
    burst = 0
    for number in range(recipe.tokens):
        if publisher.superseded or publisher.cancelled:
            break
        content = token(key, number, chance, recipe.size)
        journal.write(key, token=content)
        if not publisher.publish_token(content):
            journal.write(key, refused="token")
            break
        if number % 12 == 5:
            journal.write(key, item=number)
            if not publisher.publish_item_completed("picture", number, {"text": key}):
                journal.write(key, refused="item")
        if chance.random() < 0.04 and publisher.flush(5):
            journal.write(key, acknowledged="text")
        burst = burst - 1 if burst else 20 * (chance.random() < 0.01)
        if not burst:
            time.sleep(recipe.pause * chance.uniform(0.2, 1.8))
    outcome = _end(publisher, journal, key, fails=recipe.fails)
    if outcome == "superseded":
        journal.write(key, superseded=True)
    return outcome


def close(publisher: RedisStreamPublisher, journal: Journal, key: str) -> None:
    """Close, however long it takes, and note when nobody holds the text any more."""
    deadline = time.monotonic() + DELIVERY_SECONDS
    while not publisher.close() and time.monotonic() < deadline:
        time.sleep(0.05)  # it waits no longer itself once a call has timed out
    journal.write(key, over=True)


def _end(publisher: RedisStreamPublisher, journal: Journal, key: str, *, fails: bool) -> str:
    if _is_superseded(publisher):
        return "superseded"
    outcome = "cancelled" if publisher.cancelled else "error" if fails else "done"
    journal.write(key, end=outcome)
    if outcome == "cancelled":
        delivered = publisher.publish_error("The run was cancelled.", reason="cancelled")
    elif fails:
        delivered = publisher.publish_error("on purpose")
    else:
        delivered = publisher.publish_done(full_text=publisher.text)
    deadline = time.monotonic() + DELIVERY_SECONDS
    while not (delivered or _is_superseded(publisher)) and time.monotonic() < deadline:
        delivered = publisher.flush(5)
    if _is_superseded(publisher):
        return "superseded"
    if delivered:
        journal.write(key, acknowledged="end")
    return outcome


def _is_superseded(publisher: RedisStreamPublisher) -> bool:
    """Asked anew each time: another thread tells."""
    return publisher.superseded
