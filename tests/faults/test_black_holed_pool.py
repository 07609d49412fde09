"""A pool of green threads whose way to Redis swallows everything: tasks end in their time all the same."""

import asyncio
from pathlib import Path

import pytest
from celery.exceptions import TimeLimitExceeded

from stagecast.domain.bus import BusLimits
from tests.faults.proxy import Proxy
from tests.faults.tasks import HALF, words
from tests.faults.workers import SECONDS, got, is_text, show, site
from tests.waiting import eventually


async def test_publishing_into_a_black_hole_is_bounded(tmp_path: Path) -> None:
    """R94: publishing answers at once, ends and flushes within their own timeout, and a time limit still ends a task.

    The broker can be reached, the bus cannot. What was accepted is delivered when the way is free, and reopens the
    run that seemed dead; viewers of the task that was ended get what it had published before, and an end.
    """
    with site(BusLimits(lease=4)) as made, Proxy(made.redis.port) as proxy:
        patience = {"STAGECAST_REDIS_COMMAND_TIMEOUT": "1", "STAGECAST_REDIS_CONNECT_TIMEOUT": "1"}
        with made.worker(pool="gevent", STAGECAST_BUS=proxy.url, **patience):
            async with show(made, tmp_path) as finishes, show(made, tmp_path) as is_ended:
                answers = made.tasks.timed.delay(*finishes.arguments)
                limited = made.tasks.once.apply_async(is_ended.arguments, time_limit=2)
                await finishes.process()
                await is_ended.process()
                proxy.black_hole()
                finishes.opens()
                assert await asyncio.to_thread(answers.get, SECONDS) == [True, True, False, False]
                with pytest.raises(TimeLimitExceeded):
                    await got(limited)
                assert proxy.held
                proxy.heal()
                assert [end["type"] for end in await is_ended.ended()] == ["error"] * 4
                assert {end["reason"] for end in await is_ended.ended()} <= {"timeout", "lease"}
                kept = (await is_ended.fresh()).text
                assert is_text(kept)
                assert all(is_text(viewer.text) and kept.startswith(viewer.text) for viewer in is_ended.crowd)

                async def is_done() -> bool:
                    return bool((await finishes.fresh()).end["type"] == "done")

                await eventually(is_done, SECONDS)
                assert (await finishes.fresh()).text == words(1, HALF + 1)
                made.assert_nothing_lives_for_ever(finishes.project)
                made.assert_nothing_lives_for_ever(is_ended.project)
