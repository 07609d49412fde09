"""Attempts by pages that are not ours, on a server without a policy, and with one connection too many."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from stagecast import RedisStreamPublisher
from tests.security.attacks import (
    PAGE,
    Attempt,
    Call,
    Made,
    World,
    assert_refused,
    cancel,
    reading,
    signed,
    stream,
)
from tests.security.test_attack_tickets import cookie
from tests.sse.browser import request
from tests.sse.tickets import TICKETS
from tests.waiting import eventually

EVIL = "https://evil.example"


# Pages.


def by_cookie(project: str, **sent: str) -> Call:
    headers = {name.replace("_", "-"): value for name, value in sent.items()}
    return Call(stream(project), (*cookie(project), *headers.items()))


def cancel_by_cookie(project: str, *sent: tuple[str, str], body: bytes = b"") -> Call:
    return Call(cancel(project), (*cookie(project), *sent), "POST", body)


def page(name: str, **sent: str) -> Attempt:
    """What a page's browser sends by itself, to read; the twin is one of our pages."""
    return Attempt(name, lambda _, p: by_cookie(p, **sent), 403, lambda _, p: by_cookie(p, Origin="http://localhost"))


def acting(name: str, *sent: tuple[str, str], body: bytes = b"") -> Attempt:
    """The same to cancel (CSRF)."""
    return Attempt(
        name,
        lambda _, p: cancel_by_cookie(p, *sent, body=body),
        403,
        lambda _, p: cancel_by_cookie(p, ("Origin", PAGE)),
    )


FORM = ("Content-Type", "application/x-www-form-urlencoded")
ASKING = {"Access-Control-Request-Method": "GET"}


def preflight(name: str, target: Any, **sent: str) -> Attempt:
    """What a browser asks before a page's own request; the twin is one of our pages that wants to read."""
    wrong = {"Origin": PAGE, **ASKING, **{key.replace("_", "-"): value for key, value in sent.items()}}
    right = {"Origin": PAGE, **ASKING}
    return Attempt(
        name,
        lambda _, p: Call(target(p), tuple(wrong.items()), "OPTIONS"),
        400,
        lambda _, p: Call(stream(p), tuple(right.items()), "OPTIONS"),
        204,
    )


PAGES = [
    page("a foreign page with a cookie", Origin=EVIL),
    page("a sandboxed page with a cookie", Origin="null"),
    page("an image of a foreign page", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors"),
    page("a page of a name that begins like ours", Origin=f"{PAGE}.evil.example"),
    page("a page of a name that ends like ours", Origin="https://evilapp.example"),
    page("our page without TLS", Origin=PAGE.replace("https", "http")),
    page("our page at another port", Origin=f"{PAGE}:8443"),
    page("two origins", Origin=f"{PAGE} {EVIL}"),
    page("empty Origin", Origin=""),
    page(
        "a foreign page that says it is ours",
        Origin=EVIL,
        Sec_Fetch_Site="same-origin",
        X_Forwarded_Host="evil.example",
    ),
    acting("cancel by a foreign page", ("Origin", EVIL)),
    acting("cancel by a sandboxed page", ("Origin", "null")),
    acting("cancel by a page without Origin", ("Sec-Fetch-Site", "cross-site")),
    acting("cancel by a form", ("Origin", EVIL), FORM, body=b"run=1"),
    acting("cancel by text/plain", ("Origin", EVIL), ("Content-Type", "text/plain"), body=b"{}"),
    acting("cancel by a foreign page with a method in a header", ("Origin", EVIL), ("X-HTTP-Method-Override", "GET")),
    preflight("preflight of a foreign page", stream, Origin=EVIL),
    preflight("preflight of a sandboxed page", stream, Origin="null"),
    preflight("preflight for DELETE", stream, Access_Control_Request_Method="DELETE"),
    preflight("preflight for a foreign header", stream, Access_Control_Request_Headers="X-Admin"),
    preflight("preflight of a foreign page to cancel", cancel, Origin=EVIL, Access_Control_Request_Method="POST"),
    preflight(
        "preflight of a foreign page for tickets", lambda _: TICKETS, Origin=EVIL, Access_Control_Request_Method="POST"
    ),
]


# A server without a policy, which is for this machine alone.


def openly(project: str, **sent: str) -> Call:
    headers = {name.replace("_", "-"): value for name, value in sent.items()}
    return reading(project, headers=headers, end="", server="open")


def local(name: str, **sent: str) -> Attempt:
    return Attempt(name, lambda _, p: openly(p, **sent), 403, lambda _, p: openly(p))


# One connection too many.


@asynccontextmanager
async def seat(world: World, call: Made) -> AsyncIterator[None]:
    """A stream that is open meanwhile."""
    assert isinstance(call, Call)
    async with request(world.port(call.server), str(call.target), dict(call.headers)) as response:
        assert (await response.next()).message["type"] == "connected"
        yield
    await eventually(lambda: not world.viewers(call.server), 20)


def second(name: str, server: str, **sent: str) -> Attempt:
    """One connection too many, where there may be one."""

    def ask(project: str, sub: str, **how: Any) -> Call:
        shown = None if server == "address" else signed(project, sub=sub)
        return reading(project, shown, server=server, end="" if server == "address" else "stream/", **how)

    return Attempt(
        name,
        lambda _, p: ask(p, "ann", headers={key.replace("_", "-"): value for key, value in sent.items()}),
        429,
        lambda _, p: ask(p, "bob"),
        held=lambda world, p: seat(world, ask(p, "ann", target=LIVE[server](p))),
    )


LIVE: dict[str, Any] = {
    "principal": lambda p: stream(p, stage="waits"),
    "project": lambda p: stream(p, stage="waits"),
    "address": lambda p: stream(p, stage="waits", end=""),
}

LOCAL = [
    local("DNS rebinding", Host="evil.example"),
    local("DNS rebinding with its own Origin", Host="evil.example:8000", Origin="http://evil.example:8000"),
    local("a Host that begins like ours", Host="localhost.evil.example"),
    local("a Host with a user", Host="localhost@evil.example"),
    local("what a proxy hands on", X_Forwarded_For="203.0.113.7"),
    local("a client that claims to be local, by a proxy", X_Forwarded_For="127.0.0.1, 203.0.113.7"),
    local("X-Real-IP", X_Real_IP="203.0.113.7"),
    local("Forwarded", Forwarded="for=203.0.113.7;host=localhost"),
    Attempt("the policy's route without a policy", lambda _, p: reading(p, signed(p), server="open"), 401),
]
ONE_TOO_MANY = [
    second("too many of a principal", "principal"),
    second("too many of a project", "project"),
    second("too many of an address", "address"),
    second("too many of an address that calls itself another", "address", X_Forwarded_For="203.0.113.9"),
]


@pytest.mark.parametrize("attempt", [*PAGES, *LOCAL, *ONE_TOO_MANY], ids=lambda attempt: attempt.name.replace(" ", "-"))
async def test_who_comes_from_elsewhere_is_refused(world: World, attempt: Attempt) -> None:
    """A page, a host or an address of another, and who has enough already; the twin is served."""
    await assert_refused(world, attempt)


async def test_a_refused_cancel_cancels_nothing(world: World) -> None:
    """403, and the run goes on, whichever page of another's has asked; by one of ours it stops."""
    project = f"run-{uuid4().hex[:8]}"
    with RedisStreamPublisher(project, "rewrite", bus=world.bus) as publisher:
        assert publisher.publish_token("a")
        assert publisher.flush()
        for sent in [("Origin", EVIL)], [("Origin", "null"), FORM], [("Sec-Fetch-Site", "cross-site")]:
            _, answer = await world.ask(cancel_by_cookie(project, *sent))
            assert answer.status == 403
        assert publisher.publish_token("b")
        assert publisher.flush()
        assert not publisher.cancelled
        _, answer = await world.ask(cancel_by_cookie(project, ("Origin", PAGE)))
        assert answer.status == 202
        await eventually(lambda: publisher.cancelled, 20)
