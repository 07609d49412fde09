"""A team's own policy: functions and objects, synchronous or not, and what their answers mean."""

import asyncio
import contextvars
import functools
import threading
from typing import Any

import pytest

from stagecast.adapters.callables import CallablePolicy
from stagecast.domain.access import Access, AccessRequest
from stagecast.domain.errors import AccessDenied, NotConfigured, Unauthenticated

REQUEST = AccessRequest(project="123", stage="rewrite", token=None, cookies={"sessionid": "of ann"})
GRANT = Access(principal="ann", expires_at=1e12)


def sync(request: AccessRequest, answer: Any = GRANT) -> Any:
    assert request is REQUEST
    return answer


async def not_sync(request: AccessRequest, answer: Any = GRANT) -> Any:
    assert request is REQUEST
    return answer


class Asked:
    def __call__(self, request: AccessRequest) -> Any:
        return sync(request)


class AskedLater:
    async def __call__(self, request: AccessRequest) -> Any:
        return await not_sync(request)


class Policy:
    async def authorize(self, request: AccessRequest) -> Any:
        return await not_sync(request)


class SyncPolicy:
    def authorize(self, request: AccessRequest) -> Any:
        return sync(request)


@pytest.mark.parametrize(
    "found",
    [
        sync,
        not_sync,
        functools.partial(sync),
        functools.partial(not_sync),
        lambda request: not_sync(request),
        Asked(),
        AskedLater(),
        Policy,
        Policy(),
        SyncPolicy,
        SyncPolicy().authorize,
    ],
    ids=[
        "function",
        "plain function",
        "partial",
        "plain partial",
        "lambda",
        "callable",
        "later",
        "class",
        "object",
        "plain class",
        "method",
    ],
)
async def test_what_can_be_called_is_a_policy(found: Any) -> None:
    """A function, an object that is called like one, and what has `authorize`, a class included."""
    assert await CallablePolicy.of(found, "own:policy").authorize(REQUEST) == GRANT


@pytest.mark.parametrize("ask", [sync, not_sync])
async def test_a_name_is_a_principal(ask: Any) -> None:
    """For who has nothing more to say."""
    granted = await CallablePolicy(functools.partial(ask, answer="ann")).authorize(REQUEST)
    assert granted == Access(principal="ann")


@pytest.mark.parametrize("ask", [sync, not_sync])
@pytest.mark.parametrize("answer", [None, False])
async def test_nothing_is_a_denial(ask: Any, answer: Any) -> None:
    """None, as of a function that has found nobody, and False."""
    with pytest.raises(AccessDenied):
        await CallablePolicy(functools.partial(ask, answer=answer)).authorize(REQUEST)


@pytest.mark.parametrize("ask", [sync, not_sync])
@pytest.mark.parametrize("answer", [True, "", 1, 0, {"principal": "ann"}, ["ann"], b"ann", Access])
async def test_what_is_no_answer_grants_nothing(ask: Any, answer: Any) -> None:
    """An error, which counts as a temporary failure: a policy that says yes says whom."""
    with pytest.raises(TypeError, match="answered with"):
        await CallablePolicy(functools.partial(ask, answer=answer)).authorize(REQUEST)


@pytest.mark.parametrize("error", [Unauthenticated("no session"), AccessDenied("not yours"), OSError("away")])
@pytest.mark.parametrize("is_sync", [True, False])
async def test_errors_come_through(error: Exception, is_sync: bool) -> None:
    """Both refusals, with their texts, and whatever else it raises."""

    def raising(request: AccessRequest) -> Any:
        raise error

    async def raising_later(request: AccessRequest) -> Any:
        raise error

    with pytest.raises(type(error), match=str(error)):
        await CallablePolicy(raising if is_sync else raising_later).authorize(REQUEST)


async def test_a_synchronous_one_holds_nobody_up() -> None:
    """It runs in threads, several at once, with the caller's context."""
    together = threading.Barrier(4)
    of_caller: contextvars.ContextVar[str] = contextvars.ContextVar("of_caller")
    of_caller.set("ann")

    def ask(_: AccessRequest) -> str:
        together.wait(20)
        return of_caller.get()

    policy = CallablePolicy(ask)
    granted = await asyncio.gather(*(policy.authorize(REQUEST) for _ in range(4)))
    assert {one.principal for one in granted} == {"ann"}


async def test_one_that_hangs_leaves_the_loops_own_threads_alone() -> None:
    """Those look up names for all connections."""
    goes_on = threading.Event()
    policy = CallablePolicy(lambda _: goes_on.wait(60) and "ann")
    hanging = [asyncio.create_task(policy.authorize(REQUEST)) for _ in range(100)]
    async with asyncio.timeout(20):
        await asyncio.sleep(0)
        assert await asyncio.to_thread(lambda: "answers") == "answers"
    goes_on.set()
    assert {one.principal for one in await asyncio.gather(*hanging)} == {"ann"}


class Needy:
    def __init__(self, database: object) -> None:
        pass

    async def authorize(self, request: AccessRequest) -> Access:
        return GRANT


class Mute:
    pass


@pytest.mark.parametrize(
    "found",
    [None, 1, "ann", object(), Needy, Mute, GRANT],
    ids=["None", "number", "text", "object", "needy", "mute", "grant"],
)
def test_what_is_no_policy_is_refused(found: Any) -> None:
    """When the server starts."""
    with pytest.raises(NotConfigured, match="own:policy"):
        CallablePolicy.of(found, "own:policy")
