"""No secret in any line that a server, a publisher or a command writes; and what refusals cost the log."""

import asyncio
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page

from tests.security.sockets import ask_raw
from tests.servers import RedisServer, available_redis_kinds, free_port, start_redis
from tests.sse.browser import project_path, request, stage_path
from tests.sse.programs import SERVE, Program, running
from tests.sse.tickets import TICKETS, asked, status
from tests.sse.tokens import bearer, token
from tests.waiting import eventually

PASSWORD = f"{secrets.token_hex(8)}@/:%{secrets.token_hex(8)}"
SECRET, FORMER, TICKETS_SECRET, OTHER = (f"{name}-{secrets.token_hex(32)}" for name in ("s", "f", "t", "o"))
TEXT = f"text-{secrets.token_hex(8)}"
BEGIN = "import logging; logging.basicConfig(level=logging.DEBUG); "
SERVE_DEBUG = [
    sys.executable,
    "-c",
    BEGIN + "from stagecast.entrypoints.cli import main; main(['serve', '--port', '0'])",
]
PUBLISH_DEBUG = [
    sys.executable,
    "-c",
    BEGIN + "from stagecast import RedisStreamPublisher as P; p = P('p', 'rewrite', timeout=2); "
    "print('begun', flush=True); [p.publish_token('x') for _ in range(9)]; p.flush(2); p.close()",
]


def environment(redis_port: int) -> dict[str, str]:
    return {
        "STAGECAST_BUS": f"redis://app:{quote(PASSWORD, safe='')}@127.0.0.1:{redis_port}/0",
        "STAGECAST_JWT_SECRET": SECRET,
        "STAGECAST_JWT_FORMER_SECRETS": FORMER,
        "STAGECAST_ACCESS_TICKET_SECRET": TICKETS_SECRET,
        "STAGECAST_SSE_PATIENCE": "1",
    }


def found_in(output: str, *shown: str) -> list[str]:
    """The secrets of all of this that are in a text, by any part that says enough."""
    configured = [SECRET, FORMER, TICKETS_SECRET, PASSWORD, quote(PASSWORD, safe=""), PASSWORD[:16], PASSWORD[-16:]]
    signatures = [one.rpartition(".")[2] for one in shown]
    return [one for one in (*configured, *shown, *signatures) if one and one in output]


@contextmanager
def guarded_redis() -> Iterator[RedisServer]:
    """A Redis with a user whose password is `PASSWORD`."""
    user = ["--user", "app", "on", f">{PASSWORD}", "~*", "&*", "+@all"]
    with start_redis(available_redis_kinds()[0], extra_args=user) as redis:
        yield redis


async def ended(program: Program) -> str:
    """All that a program has written, once it was told to stop."""
    program.process.terminate()
    await asyncio.to_thread(program.exit_code, 30)
    return program.output


async def test_no_secret_is_in_any_line_of_a_server_and_a_publisher() -> None:
    """At DEBUG: logins, refusals, tickets, tokens in URLs, cookies, garbage, and a Redis that goes away under both."""
    everything = token(secret=SECRET, projects="*", actions=["read", "cancel"], sub="ann")
    others = [token(secret=OTHER, projects="*"), token(secret=SECRET, projects=[]), token(secret=FORMER, seconds=-1)]
    path, cancel = stage_path("p") + "stream/", "/api/v1/projects/p/stages/rewrite/cancel"
    with (
        guarded_redis() as redis,
        running(SERVE_DEBUG, environment(redis.port)) as server,
        running(PUBLISH_DEBUG, environment(redis.port)) as publisher,
    ):
        port = await asyncio.to_thread(lambda: server.port)
        await eventually(lambda: "begun" in publisher.output, 30)
        found = [await status(port, path, **bearer(one)) for one in (everything, *others, "garbage-" + OTHER)]
        found += [await status(port, path, Cookie=f"stagecast_token={one}") for one in (everything, others[0])]
        found += [await status(port, f"{path}?token={everything}"), await status(port, project_path("p"))]
        found += [await status(port, cancel, "POST", **bearer(everything))]
        answer = await asked(port, {"project_id": "p", "stage_name": "rewrite"}, everything)
        ticket, url = answer.json()["ticket"], answer.json()["url"]
        found += [await status(port, one) for one in (url, url, url + "x", f"{path}?ticket={everything}")]
        found += [(await asked(port, {"project_id": everything}, everything)).status_code]
        found += [(await asked(port, b"{" + everything.encode(), everything)).status_code]
        found += [(await ask_raw(port, f"BREW {everything}\r\n\r\n".encode())).status]
        assert set(found) == {200, 202, 400, 401, 403, 404}, found
        again = (await asked(port, {"project_id": "p", "stage_name": "rewrite"}, everything)).json()["url"]
        async with request(port, path, bearer(everything)) as browser:
            await browser.next()
            await asyncio.to_thread(redis.kill)
            await eventually(lambda: "the feed is down" in server.output, 30)
            assert await status(port, f"{project_path('q')}stream/", **bearer(everything)) == 503
            assert await status(port, again) == 503
        written, published = await ended(server), publisher.output
    assert "a viewer is refused (401)" in written
    assert "a viewer is refused (503)" in written
    assert "DEBUG:" in published
    tokens = [everything, *others, OTHER, ticket, again.partition("=")[2]]
    assert found_in(written, *tokens) == []
    assert found_in(published) == []


async def test_no_password_is_in_any_line_where_redis_was_never_there() -> None:
    """A server and a publisher that are started before Redis say so, without the password of its URL."""
    configured = environment(free_port())
    with running(SERVE_DEBUG, configured) as server, running(PUBLISH_DEBUG, configured) as publisher:
        port = await asyncio.to_thread(lambda: server.port)
        shown = token(secret=SECRET, projects="*")
        assert await status(port, stage_path("p") + "stream/", **bearer(shown)) == 503
        assert await asyncio.to_thread(publisher.exit_code, 60) == 0
        written = await ended(server)
        assert "(503)" in written
        assert "WARNING" in publisher.output
        assert found_in(written + publisher.output, shown) == []


BUS = f"redis://app:{quote(PASSWORD, safe='')}@127.0.0.1:1/0"
WRONG: dict[str, dict[str, str]] = {
    "a bus of no kind": {"STAGECAST_BUS": BUS.replace("redis:", "rediz:")},
    "a port that is none": {"STAGECAST_BUS": BUS.replace(":1/", ":x/")},
    "Sentinels without a master": {"STAGECAST_BUS": BUS.replace("redis:", "redis+sentinel:").removesuffix("/0")},
    "an option of the bus": {"STAGECAST_BUS": f"{BUS}?nonsense={SECRET}"},
    "a short secret": {"STAGECAST_JWT_SECRET": SECRET[:20]},
    "a short former secret": {"STAGECAST_JWT_SECRET": SECRET, "STAGECAST_JWT_FORMER_SECRETS": FORMER[:20]},
    "a short ticket secret": {"STAGECAST_JWT_SECRET": SECRET, "STAGECAST_ACCESS_TICKET_SECRET": TICKETS_SECRET[:20]},
    "a secret for public keys": {"STAGECAST_JWT_SECRET": SECRET, "STAGECAST_JWT_ALGORITHMS": "RS256"},
    "a secret for a public key": {"STAGECAST_JWT_PUBLIC_KEY": SECRET, "STAGECAST_JWT_ALGORITHMS": "ES256"},
    "keys of a site with a password": {
        "STAGECAST_JWT_JWKS": f"ftp://a:{SECRET}@x/",
        "STAGECAST_JWT_ALGORITHMS": "RS256",
    },
}


@pytest.mark.parametrize("settings", WRONG.values(), ids=WRONG)
def test_a_wrong_configuration_is_refused_without_its_secrets(settings: dict[str, str]) -> None:
    """Exit code 2 and the setting's name, or what Redis says where it is asked; never the value."""
    with running([*SERVE], {"STAGECAST_BUS": BUS, **settings}) as program:
        assert program.exit_code(30) == 2
        output = program.output
    assert "stagecast: error: " in output
    assert found_in(output) == []
    assert [one for one in (SECRET[:20], FORMER[:20], TICKETS_SECRET[:20]) if one in output] == []


async def hammered(port: int, paths: Sequence[tuple[str, str, dict[str, str]]], times: int) -> set[int]:
    found: set[int] = set()
    for _ in range(times):
        found |= set(await asyncio.gather(*(status(port, path, method, **sent) for method, path, sent in paths)))
    return found


async def test_a_client_that_does_not_stop_costs_the_log_little() -> None:
    """R141: of 1,200 refusals, also of tickets and garbage, the log has a few lines of each kind and no more."""
    expired, foreign = token(secret=SECRET, seconds=-1), token(secret=SECRET, projects=["x"])
    path = stage_path("p") + "stream/"
    paths = [
        ("GET", path, bearer(expired)),
        ("GET", path, bearer(foreign)),
        ("POST", TICKETS, bearer(expired)),
        ("GET", f"{path}?ticket={expired}", {}),
        ("GET", f"{path}?token={expired}", {}),
        ("GET", stage_path("p"), {}),
    ]
    with running(SERVE, {"STAGECAST_BUS": "memory://", "STAGECAST_JWT_SECRET": SECRET}) as program:
        port = await asyncio.to_thread(lambda: program.port)
        assert await hammered(port, paths, 200) == {400, 401, 403, 404}
        assert await status(port, path, **bearer(token(secret=SECRET, projects="*"))) == 200
        output = await ended(program)
    assert len(output.splitlines()) < 4 * 20 + 20  # four kinds of refusal
    assert found_in(output, expired, foreign) == []


def requests_of(tab: Page) -> list[str]:
    """The URLs that a page asks for from now on."""
    found: list[str] = []
    tab.on("request", lambda sent: found.append(sent.url))
    return found


@pytest.mark.browser
@pytest.mark.timeout(90)
def test_a_browser_stops_at_a_refusal(chromium: Browser) -> None:
    """R141: an EventSource whose cookie is over, or of another project, asks once, and is closed for good."""
    with running(SERVE, {"STAGECAST_BUS": "memory://", "STAGECAST_JWT_SECRET": SECRET}) as program:
        origin = f"http://localhost:{program.port}"
        for cookie in token(secret=SECRET, seconds=-1), token(secret=SECRET, projects=["x"]):
            context = chromium.new_context()
            context.add_cookies([{"name": "stagecast_token", "value": cookie, "url": origin}])
            tab = context.new_page()
            tab.goto(f"{origin}/healthz")
            asked_for = requests_of(tab)
            tab.evaluate("path => { window.source = new EventSource(path); }", stage_path("p") + "stream/")
            tab.wait_for_function("window.source.readyState === EventSource.CLOSED")
            assert len(asked_for) == 1
            context.close()
