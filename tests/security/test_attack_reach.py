"""Requests that name another project beside their path, and answers that a cache between could give to others."""

import re
from typing import Any

import pytest

from tests.security.attacks import (
    CONTENT,
    MINE,
    PAGE,
    RUNS,
    UNKNOWN,
    VAULT,
    Call,
    World,
    assert_nothing_leaked,
    assert_passes,
    cancel,
    granted,
    reading,
    signed,
    stream,
)
from tests.security.test_attack_requests import right
from tests.security.test_attack_tickets import by_ticket, office, ticket


async def position(world: World, project: str) -> str:
    """The id of the last message of a project's stream."""
    _, answer = await world.ask(granted(project))
    found: list[bytes] = re.findall(rb"^id: (\S+)", answer.body, re.MULTILINE)
    return found[-1].decode()


ASTRAY: dict[str, Any] = {
    "Last-Event-ID of another project": lambda at: [("Last-Event-ID", at)],
    "Last-Event-ID with a forged line": lambda at: [("Last-Event-ID", f"{at}\\ndata: {{}}")],
    "Last-Event-ID with an encoded line end": lambda at: [("Last-Event-ID", f"{at}%0d%0aX-Injected: 1")],
    "huge Last-Event-ID": lambda at: [("Last-Event-ID", "9" * 8000)],
    "huge parts of a Last-Event-ID": lambda at: [("Last-Event-ID", f"{'9' * 4000}-{'9' * 4000}")],
    "negative Last-Event-ID": lambda at: [("Last-Event-ID", "-1--1")],
    "Last-Event-ID of a Redis command": lambda at: [("Last-Event-ID", "0-0 KEYS *")],
    "Last-Event-ID twice": lambda at: [("Last-Event-ID", "0-0"), ("Last-Event-ID", at)],
    "Last-Event-ID of other digits": lambda at: [("Last-Event-ID", "\u0661-\u0661")],
    "X-Original-URL": lambda at: [("X-Original-URL", stream(VAULT)), ("X-Rewrite-URL", stream(VAULT))],
    "X-Forwarded-Prefix": lambda at: [("X-Forwarded-Prefix", "/../vault"), ("X-Forwarded-Host", VAULT)],
    "X-HTTP-Method-Override": lambda at: [("X-HTTP-Method-Override", "DELETE")],
    "a header of the project": lambda at: [("X-Project-Id", VAULT), ("project_id", VAULT)],
    "Range": lambda at: [("Range", "bytes=0-99999"), ("If-None-Match", "*")],
    "Upgrade": lambda at: [("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")],
    "Accept-Encoding": lambda at: [("Accept-Encoding", "gzip, br"), ("TE", "trailers")],
}
QUERIES = {
    "project_id in the query": f"project_id={VAULT}&stage_name=rewrite&project={VAULT}",
    "position in the query": "last_event_id={at}",
    "CR LF in the position": "last_event_id={at}%0d%0adata:%20x",
    "a run of another, then none": f"run={UNKNOWN}&run=",
    "a pattern": "topic=*&channel=*&pattern=stagecast:*",
    "no UTF-8": "x=%ff%fe&last_event_id=%c0%af",
}


async def assert_own(world: World, call: Call) -> None:
    """The project that the URL names, whole, and nothing of the other."""
    _, answer = await world.ask(call)
    assert answer.status == 200, answer
    assert CONTENT[MINE].encode() in answer.body
    assert not [one for one in (CONTENT[VAULT], RUNS[VAULT], VAULT) if one.encode() in answer.head + answer.body]
    assert b"x-injected" not in answer.head.lower()
    lines = {line.partition(b":")[0] for line in answer.body.split(b"\n") if b":" in line}
    assert lines <= {b"id", b"data", b"retry", b""}
    world.assert_serves()


@pytest.mark.parametrize("sent", ASTRAY.values(), ids=ASTRAY)
async def test_headers_lead_to_no_other_project(world: World, sent: Any) -> None:
    """Who may see one project, and names another one beside the path, sees the path's; of a position, all of it."""
    await assert_own(world, right(MINE, more=sent(await position(world, VAULT))))


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
async def test_queries_lead_to_no_other_project(world: World, query: str) -> None:
    """The same for what a query says."""
    at = await position(world, VAULT)
    await assert_own(world, reading(MINE, signed(MINE), query=query.format(at=at)))


# What a cache between may do with an answer.


async def test_no_cache_mixes_those_who_ask(world: World) -> None:
    """No answer may be kept and given to others: streams are asked for anew, all others are not stored at all."""
    good = signed(VAULT)
    shown = await ticket(world, VAULT)
    calls: dict[str, tuple[Call, int]] = {
        "by token": (granted(VAULT), 200),
        "by ticket": (by_ticket(VAULT, shown), 200),
        "by a used ticket": (by_ticket(VAULT, shown), 401),
        "by HEAD": (reading(VAULT, good, method="HEAD"), 200),
        "by nothing": (reading(VAULT), 401),
        "of another": (reading(VAULT, signed(MINE)), 403),
        "of no run": (reading(VAULT, good, query="run=x"), 404),
        "the open route": (reading(VAULT, end=""), 404),
        "no route": (Call("/nowhere"), 404),
        "no method": (reading(VAULT, good, method="PUT"), 405),
        "no id": (reading("a*", good), 400),
        "too long": (reading(VAULT, good, query="x=" + "a" * 9000), 414),
        "no HTTP": (Call("", raw=b"x\r\n\r\n"), 400),
        "a ticket": (office(VAULT), 201),
        "no ticket": (office(VAULT, headers=()), 401),
        "cancel": (right(VAULT, cancel(VAULT), method="POST"), 200),
    }
    for name, (call, status) in calls.items():
        for origin in "", PAGE, "https://evil.example":
            if name in {"by ticket", "no HTTP"} and origin:
                continue
            sent = Call(
                call.target,
                (*call.headers, *([("Origin", origin)] if origin else [])),
                call.method,
                call.body,
                raw=call.raw,
            )
            _, answer = await world.ask(sent)
            assert answer.status == status, name
            lines = dict(line.lower().split(": ", 1) for line in answer.head.decode().split("\r\n")[1:])
            is_stream = lines["content-type"].startswith("text/event-stream")
            assert lines["cache-control"] == ("no-cache, no-transform" if is_stream else "no-store"), name
            if name not in {"no HTTP", "no route"}:
                assert lines["vary"] == "origin", name
            assert not {"etag", "last-modified", "expires", "set-cookie"} & set(lines)
            if status >= 400:
                assert_nothing_leaked(sent, answer)
    await assert_passes(world, lambda _, p: granted(p))


async def test_a_run_is_cancelled_by_its_own_path_alone(world: World) -> None:
    """Who may cancel in one project, and names another's run there, stops nothing; nor do patterns and line ends."""
    for run in str(world.publisher.run_id), "*", "%00", "%0d%0a", "%ff", "a" * 7000:
        _, answer = await world.ask(right(MINE, cancel(MINE, f"run={run}"), method="POST"))
        assert (answer.status, b'"cancelled":false' in answer.body) == (200, True)
    assert not world.publisher.cancelled
    world.assert_serves()
