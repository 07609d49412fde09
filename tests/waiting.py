"""Waiting for a condition with a deadline, instead of sleeping and hoping."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

import anyio

T = TypeVar("T")

POLL_SECONDS = 0.005


def wait_until(predicate: Callable[[], T], timeout: float = 5.0) -> T:
    """Call `predicate` until its value is true and return that value; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s; the last value was {value!r}")
        time.sleep(POLL_SECONDS)
    return value


@overload
async def eventually(predicate: Callable[[], Awaitable[T]], timeout: float = 5.0) -> T: ...
@overload
async def eventually(predicate: Callable[[], T], timeout: float = 5.0) -> T: ...
async def eventually(predicate: Callable[[], Any], timeout: float = 5.0) -> Any:
    """`wait_until` for async tests: the event loop goes on meanwhile, and `predicate` may be a coroutine function."""
    deadline = time.monotonic() + timeout
    while True:
        result = predicate()
        value = await result if isinstance(result, Awaitable) else result
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s; the last value was {value!r}")
        await anyio.sleep(POLL_SECONDS)
