"""Fixtures of the whole suite: the async backend and the shared Redis servers."""

import gc
import signal
from collections.abc import Iterator

import pytest

from tests.servers import RedisKind, RedisServer, available_redis_kinds, start_redis

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it to what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or no server of a test would hear of it


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as Celery's and uvicorn's users do."""
    return "asyncio"


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Only reference counts free objects."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session", params=available_redis_kinds())
def redis_kind(request: pytest.FixtureRequest) -> RedisKind:
    """Each kind of server that this machine has, for tests that start their own."""
    kind: RedisKind = request.param
    return kind


@pytest.fixture(scope="session")
def _shared_redis(redis_kind: RedisKind) -> Iterator[RedisServer]:
    with start_redis(redis_kind) as server:
        yield server


@pytest.fixture
def redis_server(_shared_redis: RedisServer) -> RedisServer:
    """A shared, emptied server of each kind in turn; a test must not kill, pause or configure it."""
    return _emptied(_shared_redis)


@pytest.fixture(scope="session")
def _any_shared_redis() -> Iterator[RedisServer]:
    kinds = available_redis_kinds()
    if not kinds:
        pytest.fail("no Redis or Valkey server found: run `make setup`")
    with start_redis(kinds[0]) as server:
        yield server


@pytest.fixture
def any_redis(_any_shared_redis: RedisServer) -> RedisServer:
    """One shared, emptied server (Valkey where present); a test must not kill, pause or configure it."""
    return _emptied(_any_shared_redis)


def _emptied(server: RedisServer) -> RedisServer:
    with server.client() as client:
        client.flushall()
    return server


LONGEST = ("tests/soak/test_soak.py", "tests/faults/test_outages.py", "tests/llm/", "tests/test_benchmarks.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first: at the end one worker would wait for the other."""

    def rank(item: pytest.Item) -> int:
        return next((n for n, start in enumerate(LONGEST) if item.nodeid.startswith(start)), len(LONGEST))

    items.sort(key=rank)
