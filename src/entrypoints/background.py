"""The process's background thread with its event loop, on which synchronous callers' publishers and subscriptions run.

That thread is why an LLM loop never waits for the network. It is made at the first use in each process; a forked child
makes its own and touches nothing of its parent's. Not anyio's portal: that one waits for its loop to start a task,
cannot be used by a finalizer, and its thread is a greenlet under gevent.
"""

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401  its hook at exit, which ends getaddrinfo, must run after ours
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from contextlib import suppress
from importlib import import_module
from typing import Any, TypeVar

from attrs import define

from stagecast.domain.bus import MessageBus
from stagecast.domain.errors import BusUnavailable, NotConfigured
from stagecast.domain.publishing import StagePublisher

from .wiring import checked, shared_bus

logger = logging.getLogger("stagecast.background")

START_SECONDS = 10.0
EXIT_SECONDS = 5.0
"""How long a process that ends waits for undelivered events."""
MARGIN = 1.0
"""Seconds more than its own timeout that a coroutine gets, should the loop be busy."""

_Answer = TypeVar("_Answer")


@define(eq=False)
class Delivery:
    """A publisher whose events the background thread delivers."""

    publisher: StagePublisher
    done: "Future[None]"
    """Done when the publisher was closed and everything of it is delivered."""
    is_closing: bool = False

    def close(self) -> None:
        """Let the delivery end once everything is delivered. Does not wait."""
        self.is_closing = True
        self.publisher.close()


class Background:
    """One event loop in one daemon thread of this process."""

    def __init__(self) -> None:
        self.process = os.getpid()
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._ended = threading.Event()
        self._deliveries: dict[Future[None], Delivery] = {}
        self._stop = asyncio.Event()
        _start_os_thread(lambda: self._serve(started))
        self._loop = started.result(START_SECONDS)

    @property
    def is_current(self) -> bool:
        """False in a forked child, for what its parent made: it must be left alone."""
        return self is _current

    def call(self, coroutine: Coroutine[Any, Any, _Answer], timeout: float | None) -> _Answer:
        """The coroutine's answer. Raises TimeoutError, and cancels it, where `timeout` seconds did not suffice."""
        future = self.spawn(coroutine)
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()
            raise

    def spawn(self, coroutine: Coroutine[Any, Any, _Answer]) -> "Future[_Answer]":
        """Run the coroutine without waiting for it. Raises BusUnavailable at the very end of the process."""
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError as error:
            coroutine.close()
            raise BusUnavailable("the process ends: its background thread has stopped") from error

    def soon(self, callback: Callable[[], object]) -> None:
        """Call `callback` on the loop. Takes no lock and never waits, so a finalizer may use it in any thread."""
        with suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(callback)

    def deliver(self, publisher: StagePublisher) -> Delivery:
        """Run the publisher until it is closed and everything of it is delivered."""
        delivery = Delivery(publisher, self.spawn(publisher.run()))
        self._deliveries[delivery.done] = delivery
        delivery.done.add_done_callback(self._delivered)
        return delivery

    def drain(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until everything accepted is delivered; say in the log what is not."""
        pending: list[Future[Any]] = [
            delivery.done if delivery.is_closing else self.spawn(delivery.publisher.flush())
            for delivery in list(self._deliveries.values())
        ]
        late = wait(pending, timeout).not_done
        if late:
            logger.error("%d publishers have events that nobody will deliver when this process ends", len(late))
        return not late

    def stop(self) -> None:
        """End the loop and the thread."""
        self.soon(self._stop.set)
        self._ended.wait(MARGIN)

    def _serve(self, started: "Future[asyncio.AbstractEventLoop]") -> None:
        async def main() -> None:
            started.set_result(asyncio.get_running_loop())
            await self._stop.wait()

        try:
            asyncio.run(main())
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            elif not sys.is_finalizing():
                logger.exception("the background thread has ended")
        finally:
            self._ended.set()

    def _delivered(self, future: "Future[None]") -> None:
        self._deliveries.pop(future, None)
        if not future.cancelled() and (error := future.exception()) is not None:
            logger.error("a publisher's delivery has ended", exc_info=error)


_current: Background | None = None
_abandoned: list[Background] = []
"""What was made before a fork: kept, because to collect it would close the parent's loop."""
_lock = threading.Lock()
_has_given_up = False
_is_forked = False
_has_warned = False


def background() -> Background:
    """The background thread of this process. Raises NotConfigured under eventlet."""
    global _current
    with _lock:
        if _current is None or _current.process != os.getpid():
            _current = Background()
        return _current


def bus_of(bus: str | MessageBus | None) -> MessageBus:
    """The bus that a caller means by its URL, by itself, or by the configuration. Raises NotConfigured."""
    global _has_warned
    found = shared_bus(bus) if bus is None or isinstance(bus, str) else checked(bus)
    if _is_forked and not found.capabilities.processes and not _has_warned:
        _has_warned = True
        logger.warning(
            "this bus lives in one process only, and this is a forked child: nobody else will see what is published "
            "here. Name a bus that processes share, for example STAGECAST_BUS=redis://localhost:6379/0"
        )
    return found


def drain(timeout: float = EXIT_SECONDS) -> bool:
    """Wait for what this process has not delivered yet, at most `timeout` seconds; False where that is too short."""
    return _current is None or _current.process != os.getpid() or _current.drain(timeout)


def _start_os_thread(serve: Callable[[], None]) -> None:
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_module_patched("threading"):
        # This thread's hub first: two threads that make their first hubs at once wait for each other's import for ever.
        import_module("gevent").get_hub()
        gevent.get_original("_thread", "start_new_thread")(serve, ())
    elif eventlet is not None and eventlet.is_monkey_patched("thread"):
        raise NotConfigured(
            "stagecast needs a real thread with an event loop, which eventlet's monkey-patching does not leave: use "
            "Celery's prefork, threads, solo or gevent pool"
        )
    else:
        threading.Thread(target=serve, name="stagecast", daemon=True).start()


def _at_end_of_main_thread() -> None:
    global _has_given_up
    _has_given_up = not drain()


def _at_exit() -> None:
    if _current is not None and _current.process == os.getpid():
        if not _has_given_up:
            drain()
        _current.stop()


def _after_fork() -> None:
    global _current, _lock, _is_forked, _has_warned
    if _current is not None:
        _abandoned.append(_current)
    _current = None
    _lock = threading.Lock()
    _is_forked, _has_warned = True, False


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
# The main thread's end comes first, while new connections can still be made (getaddrinfo runs in an executor), and it
# is all that a child of multiprocessing has.
getattr(threading, "_register_atexit", atexit.register)(_at_end_of_main_thread)
