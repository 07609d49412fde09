"""Attempts with tickets, and with tokens in URLs."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from stagecast.domain.access import Access
from stagecast.domain.tickets import Ticket, TicketSigner
from stagecast.domain.topics import Topic
from tests.security.attacks import (
    MINE,
    SECRET,
    TICKET_SECRET,
    Attempt,
    Call,
    World,
    assert_refused,
    cancel,
    now,
    reading,
    signed,
    stream,
)
from tests.sse.browser import request
from tests.sse.tickets import TICKETS
from tests.sse.tokens import bearer

# Tickets.


def office(project: str, stage: Any = "rewrite", **how: Any) -> Call:
    """Asking for a ticket."""
    headers = how.pop("headers", tuple(bearer(signed(project)).items()))
    body = how.pop("body", json.dumps({"project_id": project, "stage_name": stage}).encode())
    return Call(how.pop("target", TICKETS), headers, how.pop("method", "POST"), body, **how)


async def ticket(world: World, project: str, stage: str | None = "rewrite") -> str:
    _, answer = await world.ask(office(project, stage))
    assert answer.status == 201
    return str(json.loads(answer.body)["ticket"])


def by_ticket(project: str, shown: str, **how: Any) -> Call:
    return reading(project, query=f"ticket={quote(shown, safe='')}", **how)


async def opened(world: World, project: str) -> Call:
    return by_ticket(project, await ticket(world, project))


def made_here(project: str, seconds: float, secret: str = TICKET_SECRET) -> str:
    """A ticket as the server signs it, with the secret that it has."""
    signer = TicketSigner([secret])
    said = Ticket(f"id-{now(0)}", Topic(project, "rewrite"), now(seconds), Access(principal="ann"))
    return signer.signed(said)


def with_ticket(name: str, change: Any, status: int = 401) -> Attempt:
    """The attempt with what `change` makes of a right ticket; the twin takes a right one as it is."""

    async def attack(world: World, project: str) -> Call:
        call: Call = change(project, await ticket(world, project))
        return call

    return Attempt(name, attack, status, opened)


async def used(world: World, project: str, first: str, second: str) -> Call:
    shown = await ticket(world, project)
    async with request(world.port(first), str(by_ticket(project, shown).target)) as response:
        assert response.status == 200
    return by_ticket(project, shown, server=second)


async def of_the_project(world: World, project: str) -> Call:
    return by_ticket(project, await ticket(world, project, None))


async def of_another_project(world: World, project: str) -> Call:
    return by_ticket(project, await ticket(world, MINE))


def refused_office(name: str, status: int, **how: Any) -> Attempt:
    """Who asks for a ticket in a wrong way; `how` as `office` takes it, called with the project."""

    def attack(_: World, project: str) -> Call:
        return office(project, **{key: one(project) for key, one in how.items()})

    return Attempt(name, attack, status, lambda _, p: office(p), 201)


def cookie(project: str, **said: Any) -> tuple[tuple[str, str], ...]:
    return (("Cookie", f"stagecast_token={signed(project, **said)}"),)


TICKET = [
    Attempt("replay", lambda world, p: used(world, p, "one", "one"), 401, opened),
    Attempt("replay at another process", lambda world, p: used(world, p, "one", "two"), 401, opened),
    Attempt("replay at the process before", lambda world, p: used(world, p, "two", "one"), 401, opened),
    with_ticket("ticket for another stage", lambda p, t: by_ticket(p, t, stage="video"), 403),
    with_ticket("ticket of a stage for all", lambda p, t: by_ticket(p, t, stage=None), 403),
    Attempt("ticket of all for a stage", of_the_project, 403, opened),
    Attempt("ticket of another project", of_another_project, 403, opened),
    Attempt(
        "expired ticket",
        lambda _, p: by_ticket(p, made_here(p, -1)),
        401,
        lambda _, p: by_ticket(p, made_here(p, 30)),
    ),
    Attempt("ticket signed by others", lambda _, p: by_ticket(p, made_here(p, 30, "x" * 64)), 401, opened),
    Attempt("ticket signed by the tokens' secret", lambda _, p: by_ticket(p, made_here(p, 30, SECRET)), 401, opened),
    with_ticket("first character changed", lambda p, t: by_ticket(p, ("A" if t[0] != "A" else "B") + t[1:])),
    with_ticket("signature cut", lambda p, t: by_ticket(p, t[:-1])),
    with_ticket("signature removed", lambda p, t: by_ticket(p, t.rpartition(".")[0])),
    with_ticket("signature of another", lambda p, t: by_ticket(p, f"{t.partition('.')[0]}.{'A' * 43}")),
    with_ticket("padded", lambda p, t: by_ticket(p, t + "=")),
    with_ticket("with a NUL", lambda p, t: by_ticket(p, t + "\0")),
    with_ticket("no ASCII", lambda p, t: by_ticket(p, "\u00e9" + t)),
    with_ticket("huge", lambda p, t: by_ticket(p, "A" * 5000 + t)),
    with_ticket("empty", lambda p, t: by_ticket(p, "")),
    with_ticket("a wrong one after a right one", lambda p, t: reading(p, query=f"ticket={t}&ticket=x")),
    with_ticket("TICKET", lambda p, t: reading(p, query=f"TICKET={t}")),
    with_ticket("ticket as bearer", lambda p, t: reading(p, t)),
    with_ticket("ticket in the cookie", lambda p, t: reading(p, headers={"Cookie": f"stagecast_token={t}"})),
    with_ticket("ticket for the open route", lambda p, t: by_ticket(p, t, end=""), 404),
    with_ticket("ticket to cancel", lambda p, t: Call(cancel(p, f"ticket={t}"), method="POST")),
    with_ticket("ticket for a ticket", lambda p, t: office(p, target=f"{TICKETS}?ticket={t}", headers=())),
    with_ticket("ticket as bearer for a ticket", lambda p, t: office(p, headers=tuple(bearer(t).items()))),
    Attempt("bearer as ticket", lambda _, p: by_ticket(p, signed(p)), 401, opened),
    refused_office("ticket without a token", 401, headers=lambda p: ()),
    refused_office("ticket by cookie", 401, headers=cookie),
    refused_office("ticket by Basic", 401, headers=lambda p: (("Authorization", f"Basic {signed(p)}"),)),
    refused_office("ticket for another's project", 403, headers=lambda p: tuple(bearer(signed(MINE)).items())),
    refused_office(
        "ticket asked for another stage", 403, headers=lambda p: tuple(bearer(signed(p, stages=["a"])).items())
    ),
    refused_office(
        "ticket with a token that cancels", 403, headers=lambda p: tuple(bearer(signed(p, actions=["cancel"])).items())
    ),
    refused_office("ticket for a pattern", 400, body=lambda p: b'{"project_id": "*"}'),
    refused_office("ticket for an object", 400, body=lambda p: json.dumps({"project_id": {p: 1}}).encode()),
    refused_office("ticket for a list", 400, body=lambda p: json.dumps([p]).encode()),
    refused_office("ticket for no JSON", 400, body=lambda p: f"project_id={p}".encode()),
    refused_office("ticket for no UTF-8", 400, body=lambda p: b'{"project_id": "\xff"}'),
    refused_office("ticket for a deep body", 400, body=lambda p: b"[" * 4000),
    refused_office("ticket for a large body", 413, body=lambda p: b'{"project_id": "%b"}' % (b"x" * 5000)),
    refused_office("ticket by GET", 405, method=lambda p: "GET"),
]


# Tokens in URLs.


def in_query(name: str) -> Attempt:
    return Attempt(f"{name} in the query", lambda _, p: reading(p, query=f"{name}={signed(p)}"), 400)


QUERY = [
    *(
        in_query(name)
        for name in ("token", "access_token", "jwt", "bearer", "authorization", "api_key", "Access_Token", "%74oken")
    ),
    Attempt("a token there beside a right one", lambda _, p: reading(p, signed(p), query=f"jwt={signed(p)}"), 400),
    Attempt(
        "a token there to cancel",
        lambda _, p: Call(cancel(p, f"token={signed(p)}"), method="POST"),
        400,
        lambda _, p: Call(cancel(p), tuple(bearer(signed(p)).items()), "POST"),
    ),
    refused_office(
        "a token there for a ticket", 401, headers=lambda _: (), target=lambda p: f"{TICKETS}?t={signed(p)}"
    ),
    Attempt("a token in a field that nobody knows", lambda _, p: reading(p, query=f"auth={signed(p)}"), 401),
    Attempt("a token in the path", lambda _, p: reading(p, target=f"/{signed(p)}{stream(p)}"), 404),
    Attempt("a token as the user", lambda _, p: reading(p, headers={"Host": f"{signed(p)}@localhost"}), 401),
]


@pytest.mark.parametrize("attempt", [*TICKET, *QUERY], ids=lambda attempt: attempt.name.replace(" ", "-"))
async def test_a_ticket_that_is_not_good_for_it_is_refused(world: World, attempt: Attempt) -> None:
    """R140: used, over, changed, of another topic, in another's place, or a token where only a ticket may be."""
    await assert_refused(world, attempt)
