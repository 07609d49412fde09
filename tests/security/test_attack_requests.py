"""Attempts with requests: of any size, shape and speed, with ids and positions that lead elsewhere."""

import asyncio
import logging
from typing import Any

import pytest

from stagecast.entrypoints.sse import EdgeSettings
from tests.security.attacks import (
    MINE,
    RUNS,
    VAULT,
    Attempt,
    Call,
    World,
    assert_refused,
    cancel,
    reading,
    signed,
    stream,
)
from tests.sse.tokens import bearer
from tests.waiting import eventually

BOUNDS = EdgeSettings()


def right(project: str, target: str | bytes = "", **how: Any) -> Call:
    """With a token for everything: what is wrong is the rest."""
    headers = (*bearer(signed(project, projects="*")).items(), *how.pop("more", ()))
    return Call(target or stream(project), headers, **how)


def method(name: str) -> Attempt:
    return Attempt(f"{name} on a stream", lambda _, p: right(p, method=name), 405)


def path(name: str, inner: Any, status: int = 400) -> Attempt:
    """What stands in the place of a project's id; `inner` is made of the project."""
    return Attempt(
        name,
        lambda _, p: right(p, b"/api/v1/sse/projects/%b/stages/rewrite/stream/?replay=latest" % inner(p.encode())),
        status,
    )


def raw(name: str, data: Any, status: int = 400, server: str = "one") -> Attempt:
    """Bytes as no client sends them; `data` is made of the path and the headers of a right request."""

    def attack(_: World, project: str) -> Call:
        sent = data(stream(project).encode(), right(project).data.partition(b"\r\n")[2].removesuffix(b"\r\n\r\n"))
        return Call(stream(project), raw=sent, server=server)

    return Attempt(name, attack, status, lambda _, p: reading(p, signed(p), server=server))


def more(name: str, *headers: tuple[str, str], status: int = 400, **how: Any) -> Attempt:
    return Attempt(name, lambda _, p: right(p, more=headers, **how), status)


SHAPES = [
    *(method(name) for name in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND")),
    Attempt("GET to cancel", lambda _, p: right(p, cancel(p)), 405, lambda _, p: right(p, cancel(p), method="POST")),
    Attempt("the open route of a stage", lambda _, p: right(p, stream(p, end="")), 404),
    Attempt("the open route of a project", lambda _, p: reading(p, stage=None, end=""), 404),
    Attempt("an unknown path", lambda _, p: right(p, f"/api/v1/sse/projects/{p}/admin/"), 404),
    Attempt("a longer path", lambda _, p: right(p, f"/api/v1/sse/projects/{p}/stages/a/stages/b/stream/"), 404),
    Attempt("another version", lambda _, p: right(p, stream(p).replace("v1", "v2")), 404),
    path("a glob", lambda p: b"*"),
    path("a glob of one character", lambda p: b"%3F" * 18),
    path("a set of characters", lambda p: b"[a-z]" + p),
    path("a glob, encoded", lambda p: p[:5] + b"%2A"),
    path("a hash tag", lambda p: b"%7B" + p + b"%7D"),
    path("the separator of keys", lambda p: p + b"%3Astage"),
    path("an encoded slash", lambda p: b"a%2F" + p, 404),
    path("an encoded slash in lower case", lambda p: b"x%2f..%2f" + p, 404),
    Attempt(
        "encoded slashes that name a stage",
        lambda _, p: right(p, f"/api/v1/sse/projects/{p}%2Fstages%2Frewrite/stream/?replay=latest"),
        400,
    ),
    Attempt("an encoded slash in a stage", lambda _, p: right(p, stream(p, stage="a%2Fb")), 404),
    path("dots", lambda p: b"..", 400),
    path("dots, encoded", lambda p: b"%2e%2e"),
    path("up and down again", lambda p: b"a/../" + p, 404),
    path("an empty part", lambda p: b"/" + p, 404),
    path("NUL", lambda p: p + b"%00"),
    path("NUL in the middle", lambda p: p[:5] + b"%00" + p[5:]),
    path("a space", lambda p: p + b"%20"),
    path("a backslash", lambda p: b"..%5C" + p),
    path("overlong", lambda p: p * 8),
    path("no UTF-8", lambda p: p + b"%ff"),
    path("an overlong encoding of a slash", lambda p: b"a%c0%af" + p),
    path("direction of writing", lambda p: p + b"%E2%80%AE"),
    path("CR LF", lambda p: p + b"%0d%0aSet-Cookie:%20a=b"),
    Attempt(
        "encoded twice, with a token of what that is not",
        lambda _, p: reading(p, signed(p), target=stream(p.replace("-", "%252D"))),
        403,
    ),
    Attempt("a NUL in a stage", lambda _, p: right(p, stream(p, stage="rewrite%00")), 400),
    Attempt("a glob for a stage", lambda _, p: right(p, stream(p, stage="*")), 400),
    Attempt("CR LF in the run", lambda _, p: right(p, stream(p, query="run=%0d%0aSet-Cookie:%20a=b")), 404),
    Attempt("another project's run", lambda _, p: right(p, stream(p, query=f"run={RUNS[MINE]}")), 404),
    Attempt("a glob for a run", lambda _, p: right(p, stream(p, query="run=*")), 404),
]

SIZES = [
    Attempt("a long path", lambda _, p: right(p, stream(p * 500)), 414),
    Attempt("a long query", lambda _, p: right(p, stream(p, query="x=" + "a" * BOUNDS.url_bytes)), 414),
    more("a long header", ("X-Long", "a" * BOUNDS.header_bytes), status=431),
    more("many headers", *((f"X-{number}", "a" * 500) for number in range(40)), status=431),
    more("a long position", ("Last-Event-ID", "9" * BOUNDS.header_bytes), status=431),
    more("many cookies", ("Cookie", "; ".join(f"c{number}=a" for number in range(4000))), status=431),
    more("a large body", body=b"x" * 5000, status=413),
    more("a body that is announced", ("Content-Length", "99999999"), status=413),
    Attempt("a large body to cancel", lambda _, p: right(p, cancel(p), method="POST", body=b"x" * 5000), 413),
    Attempt(
        "a large body in chunks",
        lambda _, p: right(
            p,
            cancel(p),
            method="POST",
            more=[("Transfer-Encoding", "chunked")],
            body=b"1400\r\n" + b"x" * 0x1400 + b"\r\n0\r\n\r\n",
        ),
        413,
    ),
    raw("a header that never ends", lambda path, head: b"GET %b HTTP/1.1\r\n%b" % (path, head), 408, "hasty"),
    raw("a path that never ends", lambda path, head: b"GET %b" % path, 408, "hasty"),
    raw(
        "a body that never comes",
        lambda path, head: b"POST /api/v1/sse/tickets HTTP/1.1\r\n%b\r\nContent-Length: 9\r\n\r\n{" % head,
        408,
        "hasty",
    ),
    raw("an endless head", lambda path, head: b"GET %b HTTP/1.1\r\n%b\r\nX: %b" % (path, head, b"a" * 40_000), 431),
    raw("an endless path", lambda path, head: b"GET %b&x=%b" % (path, b"a" * 20_000), 414),
]

LINE = b"GET %b HTTP/1.1\r\n"
SMUGGLED = b"GET /api/v1/sse/projects/x/stream/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST %b HTTP/1.1\r\n%b\r\n"
BYTES = [
    raw("no HTTP", lambda path, head: b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    raw("TLS", lambda path, head: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40 + b"\r\n\r\n"),
    raw("HTTP/2 without a word", lambda path, head: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    raw("an unknown version", lambda path, head: b"GET %b HTTP/9.9\r\n%b\r\n\r\n" % (path, head)),
    raw("a space in the path", lambda path, head: b"GET /a b%b HTTP/1.1\r\n%b\r\n\r\n" % (path, head)),
    raw("NUL in the path", lambda path, head: LINE % (path + b"\0") + head + b"\r\n\r\n"),
    raw("NUL in a header", lambda path, head: LINE % path + head + b"\r\nLast-Event-ID: 1\0-1\r\n\r\n"),
    raw("CR in a header", lambda path, head: LINE % path + head + b"\r\nLast-Event-ID: 1\rX: y\r\n\r\n"),
    raw("a header without a name", lambda path, head: LINE % path + head + b"\r\n: x\r\n\r\n"),
    raw("a space before the colon", lambda path, head: LINE % path + head + b"\r\nContent-Length : 5\r\n\r\n"),
    raw("a header without a colon", lambda path, head: LINE % path + head + b"\r\nX\r\n\r\n"),
    raw("asterisk", lambda path, head: LINE % b"*" + head + b"\r\n\r\n", 404),
    raw("OPTIONS asterisk", lambda path, head: b"OPTIONS * HTTP/1.1\r\n%b\r\n\r\n" % head, 404),
    raw("CONNECT", lambda path, head: b"CONNECT localhost:6379 HTTP/1.1\r\n%b\r\n\r\n" % head),
    raw(
        "a target of another host",
        lambda path, head: LINE % b"http://169.254.169.254/latest/" + head + b"\r\n\r\n",
        404,
    ),
    raw("a target of Redis", lambda path, head: LINE % b"redis://127.0.0.1:6379/" + head + b"\r\n\r\n", 404),
    raw("a file", lambda path, head: LINE % b"/../../../../etc/passwd" + head + b"\r\n\r\n", 404),
    raw(
        "both lengths",
        lambda path, head: (
            POST % (path, head) + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED
        ),
    ),
    raw(
        "both lengths, the other way round",
        lambda path, head: (
            POST % (path, head) + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED
        ),
    ),
    raw(
        "two lengths",
        lambda path, head: POST % (path, head) + b"Content-Length: 0\r\nContent-Length: 60\r\n\r\n" + SMUGGLED,
    ),
    raw("a list of lengths", lambda path, head: POST % (path, head) + b"Content-Length: 0, 60\r\n\r\n" + SMUGGLED),
    raw("a signed length", lambda path, head: POST % (path, head) + b"Content-Length: +5\r\n\r\nabcde"),
    raw("a hexadecimal length", lambda path, head: POST % (path, head) + b"Content-Length: 0x5\r\n\r\nabcde"),
    raw("no known coding", lambda path, head: POST % (path, head) + b"Transfer-Encoding: xchunked\r\n\r\n" + SMUGGLED),
    raw(
        "chunked not last",
        lambda path, head: POST % (path, head) + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + SMUGGLED,
    ),
    raw(
        "a chunk of no size",
        lambda path, head: POST % (cancel(VAULT).encode(), head) + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ),
]


@pytest.mark.parametrize("attempt", [*SHAPES, *SIZES, *BYTES], ids=lambda attempt: attempt.name.replace(" ", "-"))
async def test_a_request_that_is_none_is_refused(world: World, attempt: Attempt) -> None:
    """Each with the status for it, before anything of a project is looked at; the same request done right passes."""
    await assert_refused(world, attempt)


async def test_a_body_that_breaks_off_is_one_line_of_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A client that goes in mid body is no error of the server's: counted as a refusal, and no traceback."""
    caplog.set_level(logging.INFO)
    refusals = world.app("hasty").state.edge.refusals.counts
    before = refusals[408, "slow"]
    for target in cancel(VAULT), "/api/v1/sse/tickets":
        call = right(VAULT, target, method="POST", more=[("Content-Length", "9")], server="hasty")
        _, writer = await asyncio.open_connection("127.0.0.1", world.port("hasty"))
        writer.write(call.data + b"abc")
        await writer.drain()
        writer.close()
    await eventually(lambda: refusals[408, "slow"] == before + 2, 20)
    assert not [one for one in list(caplog.records) if one.levelno >= logging.WARNING]
    world.assert_serves()
