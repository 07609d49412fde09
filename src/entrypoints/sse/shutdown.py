"""Learning of the end before the server waits for its connections: a link in the chain of signal handlers.

uvicorn waits for open connections before it tells an application of the shutdown, and streams never close by
themselves. So the application listens to the signals too, and hands each on to the handler that was there.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SignalChain:
    """Calls `on_signal` at SIGINT and SIGTERM before the handlers that were installed."""

    def __init__(self, on_signal: Callable[[], None]) -> None:
        self._on_signal = on_signal
        self._previous: dict[int, Any] = {}

    def install(self) -> None:
        """Enter the chain, but where a signal is ignored. Does nothing outside the main thread, which alone may."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            previous = signal.getsignal(number)
            if previous in {None, signal.SIG_IGN} or number in self._previous:  # None: not Python's, not to be called
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
        if callable(previous):
            previous(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
