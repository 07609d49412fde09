"""Used tickets within one process, for a bus that lives there too."""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable


class MemoryUsedTickets:
    """`stagecast.domain.access.UsedTickets`. Thread-safe.

    Its tickets hold in this object alone: another process, or this one started again, knows nothing of their use.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.scope = secrets.token_bytes(16)
        self._clock = clock
        self._lock = threading.Lock()
        self._used: dict[str, float] = {}
        self._order: deque[str] = deque()

    async def spend(self, identifier: str, seconds: float) -> bool:
        now = self._clock()
        with self._lock:
            while self._order and self._used[self._order[0]] <= now:
                del self._used[self._order.popleft()]
            if identifier in self._used:
                return False
            self._used[identifier] = now + seconds
            self._order.append(identifier)
            return True

    async def aclose(self) -> None:
        pass
