"""Learning of the end before the server waits for its connections: a link in the chain of signal handlers.

Servers wait for open connections before they tell an application of the shutdown, and streams never close by
themselves. So the application listens to the signals too, and hands each on to the handler that was there: a moment
later, because some servers (Daphne) then close every connection, whatever it has still to send.
"""

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
WHERE_HANDLED = tuple(getattr(signal, name) for name in ("SIGQUIT",) if hasattr(signal, name))
"""Signals that mean the end only where somebody listens to them: gunicorn's master sends them to its workers."""
LAST_WORDS = 1.0
"""Seconds that streams may take to end before the signal is handed on."""
FLUSH = 0.05
"""Seconds from the end of the last stream until the signal is handed on: what was sent has to leave the process."""
LOOK = 0.01
"""Seconds between two looks whether all streams have ended."""


class SignalChain:
    """Calls `on_signal` at a signal that means the end, and then, once `quiet`, the handler that was installed.

    A signal that comes again is handed on at once, and so is each where no event loop runs.
    """

    def __init__(self, on_signal: Callable[[], None], quiet: Callable[[], bool] = lambda: True) -> None:
        self._on_signal, self._quiet = on_signal, quiet
        self._previous: dict[int, Any] = {}
        self._waiting: set[int] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def install(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Enter the chain, but where a signal is ignored. `loop` is the main thread's.

        Does nothing outside the main thread, which alone may.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        self._loop = loop
        for number in (*SIGNALS, *WHERE_HANDLED):
            previous = signal.getsignal(number)
            if previous in {None, signal.SIG_IGN} or number in self._previous:  # None: not Python's, not to be called
                continue
            if number in WHERE_HANDLED and previous is signal.SIG_DFL:
                continue
            self._previous[number] = previous
            signal.signal(number, self._handle)

    def remove(self) -> None:
        """Leave the chain, except where somebody else has entered it since."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in list(self._previous):
            if signal.getsignal(number) == self._handle:
                signal.signal(number, self._previous.pop(number))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._on_signal()
        previous = self._previous.get(number, signal.SIG_DFL)
        if number in self._waiting or self._loop is None or not self._loop.is_running():
            _hand_on(previous, number, frame)
        else:
            self._waiting.add(number)
            self._loop.call_soon_threadsafe(self._wait, previous, number, self._loop.time() + LAST_WORDS)

    def _wait(self, previous: Any, number: int, until: float) -> None:
        assert self._loop is not None
        if self._quiet() or self._loop.time() >= until:
            self._loop.call_later(FLUSH, self._hand_on_late, previous, number)
        else:
            self._loop.call_later(LOOK, self._wait, previous, number, until)

    def _hand_on_late(self, previous: Any, number: int) -> None:
        self._waiting.discard(number)
        _hand_on(previous, number, None)


def _hand_on(previous: Any, number: int, frame: FrameType | None) -> None:
    if callable(previous):
        previous(number, frame)
    else:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
