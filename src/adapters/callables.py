"""An access policy of the team's own: a function, or an object with `authorize`, synchronous or not."""

import asyncio
import contextvars
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stagecast.domain.access import Access, AccessRequest
from stagecast.domain.errors import AccessDenied, NotConfigured

_THREADS = 32


class CallablePolicy:
    """`stagecast.domain.access.AccessPolicy`: grants what `decide` answers with an Access or a principal's name.

    None and False deny. A synchronous `decide` runs in a thread, since it may ask a database, several at once; the
    threads are its own, so that one which hangs keeps nobody else waiting.
    """

    def __init__(self, decide: Callable[[AccessRequest], Any]) -> None:
        self._decide = decide
        call = decide if inspect.isroutine(decide) else getattr(decide, "__call__", decide)  # noqa: B004
        self._is_async = inspect.iscoroutinefunction(call)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="stagecast-access")

    @classmethod
    def of(cls, found: object, name: str) -> "CallablePolicy":
        """The policy that an import has found at `name`. Raises NotConfigured for what is none."""
        if isinstance(found, type):
            try:
                found = found()
            except Exception as error:
                raise NotConfigured(f"access.policy: {name}: {type(error).__name__}: {error}") from error
        decide: object = getattr(found, "authorize", found)
        if not callable(decide):
            raise NotConfigured(f"access.policy: {name} is no function and has no authorize")
        return cls(decide)

    async def authorize(self, request: AccessRequest) -> Access:
        """Raises what `decide` raises, AccessDenied, and TypeError for an answer that is none of those above."""
        answer = self._decide(request) if self._is_async else await self._in_thread(request)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, Access):
            return answer
        if answer is None or answer is False:
            raise AccessDenied(f"{request.action} is not granted for project {request.project}")
        if isinstance(answer, str) and answer:
            return Access(principal=answer)
        raise TypeError(f"the access policy has answered with a {type(answer).__name__}, no Access and no name")

    def _in_thread(self, request: AccessRequest) -> asyncio.Future[Any]:
        context = contextvars.copy_context()
        return asyncio.get_running_loop().run_in_executor(self._threads, lambda: context.run(self._decide, request))
