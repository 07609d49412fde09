"""What remembers used tickets, in memory and in Redis: once means once."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from stagecast.adapters.redis.tickets import open_used_tickets
from stagecast.adapters.tickets import MemoryUsedTickets
from stagecast.domain.access import UsedTickets
from stagecast.domain.errors import BusUnavailable, NotConfigured
from stagecast.entrypoints import wiring
from tests.servers import RedisServer
from tests.waiting import eventually


@pytest.fixture(params=["memory", "redis"])
def opened(request: pytest.FixtureRequest, redis_server: RedisServer) -> Callable[[], UsedTickets]:
    """Opens what remembers: in Redis any number of objects share it, as processes do."""
    if request.param == "redis":
        return lambda: wiring.open_used_tickets(redis_server.url)
    shared = wiring.open_used_tickets("memory://")
    return lambda: shared


async def test_the_first_alone_spends_it(opened: Callable[[], UsedTickets]) -> None:
    """Of many at the same time, from several processes, exactly one; another ticket is another matter."""
    several = [opened() for _ in range(3)]
    spent = await asyncio.gather(*(several[i % 3].spend("one", 60) for i in range(30)))
    assert sorted(spent) == [False] * 29 + [True]
    assert await several[0].spend("another", 60)
    assert not await several[1].spend("another", 60)
    for one in several:
        await one.aclose()


async def test_it_is_forgotten_after_its_time(opened: Callable[[], UsedTickets]) -> None:
    """And not before: memory is given back."""
    used = opened()
    assert await used.spend("one", 0.3)
    assert await used.spend("other", 60)
    assert not await used.spend("one", 60)
    await eventually(lambda: used.spend("one", 60), 20)
    assert not await used.spend("other", 60)
    await used.aclose()


def test_each_event_loop_may_ask(opened: Callable[[], UsedTickets]) -> None:
    """One after the other, and in threads; what is closed can be used again."""
    used = opened()

    async def spend() -> bool:
        try:
            return await used.spend("one", 60)
        finally:
            await used.aclose()

    found = [asyncio.run(spend())]
    threads = [threading.Thread(target=lambda: found.append(asyncio.run(spend()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] + [False] * 4


async def test_redis_keeps_one_key_that_ends(any_redis: RedisServer) -> None:
    """Below the prefix of all of stagecast's keys, with a time to live."""
    used = open_used_tickets(any_redis.url)
    assert await used.spend("one", 30)
    await used.aclose()
    with any_redis.client() as client:
        (key,) = client.keys()
        assert key == b"stagecast:1:ticket:one"
        assert 20_000 < client.pttl(key) <= 30_000
        await eventually(lambda: all(one["name"] != "stagecast" for one in client.client_list()))


async def test_without_redis_nobody_knows() -> None:
    """BusUnavailable, and no answer that somebody could take for one."""
    used = open_used_tickets("redis://127.0.0.1:1/0")
    with pytest.raises(BusUnavailable):
        await used.spend("one", 30)
    await used.aclose()


async def test_a_redis_that_comes_back_is_asked_again(any_redis: RedisServer) -> None:
    """A connection that the server has closed costs nobody a ticket."""
    used = open_used_tickets(any_redis.url)
    assert await used.spend("one", 30)
    with any_redis.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert await used.spend("two", 30)
    assert not await used.spend("one", 30)
    await used.aclose()


def test_memory_of_one_process_is_nobody_elses() -> None:
    """Each has a scope of its own, so that its tickets hold there alone; Redis is shared by all."""
    assert MemoryUsedTickets().scope != MemoryUsedTickets().scope
    assert len(MemoryUsedTickets().scope) >= 16
    assert open_used_tickets("redis://h").scope == b""


@pytest.mark.parametrize("url", ["carrier-pigeon://x", "nonsense"])
def test_other_buses_remember_nothing(url: str) -> None:
    """Who brings one brings this too."""
    with pytest.raises(NotConfigured, match="used_tickets"):
        wiring.open_used_tickets(url)


def test_a_url_that_is_none_is_refused() -> None:
    """Without repeating what could be a password."""
    with pytest.raises(NotConfigured) as caught:
        open_used_tickets("redis://:hunter2@h:port/0")
    assert "hunter2" not in str(caught.value)
