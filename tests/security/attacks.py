"""Attempts to get in where one doesn't belong: real servers with content, and what every attempt must show."""

import http.client
import inspect
import re
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, TypeAlias

from attrs import Factory, field, frozen

from stagecast import RedisStreamPublisher
from stagecast.adapters.jwt import JwtAccessPolicy
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.sse.arrival import Bounds, protocol
from tests.adapters.test_jwt_keys import RSA, pem
from tests.reading import rebuilt
from tests.security.sockets import RawAnswer, ask_raw
from tests.servers import available_redis_kinds, start_redis
from tests.sse import tokens
from tests.sse.eventstream import EventStreamParser
from tests.sse.programs import SERVE, running
from tests.sse.serving import Served, served
from tests.waiting import wait_until

SECRET, TICKET_SECRET, PASSWORD = (secrets.token_hex(32) for _ in range(3))
ISSUER, AUDIENCE, PAGE = "https://login.example", "streams", "https://app.example"
VAULT, MINE, KEPT = (f"{name}-{secrets.token_hex(6)}" for name in ("vault", "minee", "keptt"))
"""A project that somebody else's run has filled, the attacker's own, and one that is watched all the while."""
UNKNOWN = f"nowhr-{secrets.token_hex(6)}"
"""As long as `VAULT`, so that answers are of one length; nobody has heard of it."""
CONTENT = {name: f"the text of {name[:5]} {secrets.token_hex(8)}" for name in (VAULT, MINE)}
RUNS: dict[str, str] = {}
"""The id of each project's run."""
LEAKS = ("Traceback", 'File "', ".py", "redis", "stagecast.", "127.0.0.1", "site-packages")
"""What no answer has."""


def signed(project: str, **claims: Any) -> str:
    """A token that reads and cancels all of a project, but for what `claims` say."""
    given = {"projects": [project], "actions": ["read", "cancel"], "iss": ISSUER, "aud": AUDIENCE, "sub": "ann"}
    options: dict[str, Any] = {"secret": SECRET}
    options |= {name: claims.pop(name) for name in ("secret", "algorithm", "seconds") if name in claims}
    said = {name: value for name, value in (given | claims).items() if value is not ...}
    return tokens.token(**options, **said)


def without(*names: str) -> dict[str, Any]:
    """Claims that are not there."""
    return dict.fromkeys(names, ...)


@frozen
class Call:
    """One request as it goes over a socket; `raw` is all of it."""

    target: str | bytes
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "GET"
    body: bytes = b""
    server: str = "one"
    raw: bytes = b""

    @property
    def data(self) -> bytes:
        if self.raw:
            return self.raw
        target = self.target.encode() if isinstance(self.target, str) else self.target
        names = {name.lower() for name, _ in self.headers}
        lines = [] if "host" in names else ["Host: localhost"]
        lines += [f"{name}: {value}" for name, value in self.headers] + ["Connection: close"]
        if self.body and not names & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(self.body)}")
        head = "\r\n".join([*lines, "", ""]).encode("utf-8")
        return b"%b %b HTTP/1.1\r\n" % (self.method.encode(), target) + head + self.body


Made: TypeAlias = Call | Awaitable[Call]


def stream(project: str, *, stage: str | None = "rewrite", end: str = "stream/", query: str = "") -> str:
    """The path of a stream that shows what there is and then ends."""
    inner = "" if stage is None else f"stages/{stage}/"
    return f"/api/v1/sse/projects/{project}/{inner}{end}?replay=latest{query and '&' + query}"


def cancel(project: str, query: str = "") -> str:
    return f"/api/v1/projects/{project}/stages/rewrite/cancel{query and '?' + query}"


def reading(project: str, token: str | None = None, headers: Mapping[str, str] | None = None, **how: Any) -> Call:
    """Following a stage with a bearer token; `how` as `Call` and `stream` take it."""
    path = {name: how.pop(name) for name in ("stage", "end", "query") if name in how}
    shown = {} if token is None else tokens.bearer(token)
    return Call(how.pop("target", stream(project, **path)), tuple({**shown, **(headers or {})}.items()), **how)


def granted(project: str) -> Call:
    """The same request done right."""
    return reading(project, signed(project))


@frozen
class Attempt:
    """An attempt on a project, refused with `status`, and its twin, which is the same request done right."""

    name: str
    attack: Callable[["World", str], Made]
    status: int
    twin: Callable[["World", str], Made] = lambda _, project: granted(project)
    twin_status: int = 200
    held: Callable[["World", str], AbstractAsyncContextManager[Any]] = lambda _, project: nullcontext()
    """What is open meanwhile."""


class Watcher:
    """A viewer of a stage that is open all the while."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        path = f"/api/v1/sse/projects/{KEPT}/stages/rewrite/stream/"
        self._connection.request("GET", path, headers=tokens.bearer(signed(KEPT, seconds=600, sub="watcher")))
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200
        self.stream = EventStreamParser()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def text(self) -> str:
        return rebuilt([event.message for event in list(self.stream.events)])

    def join(self) -> None:
        """Wait for the stream's end."""
        self._reader.join(20)
        assert not self._reader.is_alive()
        self._connection.close()

    def _read(self) -> None:
        while data := self._answer.read1(65536):
            self.stream.feed(data)


@frozen
class World:
    """Two server processes on one Redis, others in threads where an attempt needs them, viewers at both processes."""

    bus: str
    ports: dict[str, int]
    publisher: RedisStreamPublisher
    watchers: list[Watcher]
    _stack: ExitStack = field(repr=False)
    _sent: list[str] = Factory(list)
    _served: dict[str, Served] = Factory(dict)

    def port(self, name: str) -> int:
        if name not in self.ports:
            options: dict[str, Any] = {}
            policy, settings = POLICIES.get(name), SETTINGS.get(name, EdgeSettings())
            app = create_app(self.bus, policy and policy(), settings=settings, allow_public=name == "address" or None)
            if name == "hasty":
                options["http"] = protocol(Bounds(settings, app.state.edge.refusals))
            if name == "address":
                options["forwarded_allow_ips"] = "192.0.2.1"
            self._served[name] = self._stack.enter_context(served(app, **options))
            self.ports[name] = self._served[name].port
        return self.ports[name]

    def app(self, name: str) -> Any:
        """The application of a server in a thread."""
        self.port(name)
        return self._served[name].app

    def viewers(self, name: str) -> int:
        """How many streams it has."""
        return sum(hub._count for hub in self.app(name).state.edge._hubs.values())

    async def ask(self, made: Made) -> tuple[Call, RawAnswer]:
        call = await made if inspect.isawaitable(made) else made
        return call, await ask_raw(self.port(call.server), call.data)

    def assert_serves(self) -> None:
        """A new token reaches every viewer, whose text is exactly what was published."""
        self._sent.append(f"{len(self._sent)},")
        assert self.publisher.publish_token(self._sent[-1])
        for watcher in self.watchers:
            wait_until(lambda watcher=watcher: watcher.text == "".join(self._sent), 20)  # type: ignore[misc]


def jwt_policy(**options: Any) -> Callable[[], JwtAccessPolicy]:
    return lambda: JwtAccessPolicy(issuer=ISSUER, audience=AUDIENCE, **options)


JWKS_FILE: list[str] = []
POLICIES: dict[str, Callable[[], JwtAccessPolicy]] = {
    "rsa": jwt_policy(public_key=pem(RSA), algorithms=["RS256"]),
    "jwks": lambda: jwt_policy(jwks=JWKS_FILE[0], algorithms=["RS256"])(),
    **dict.fromkeys(("hasty", "principal", "project"), jwt_policy(secret=SECRET)),
}
"""Of the servers that have one beside the processes `one` and `two`."""
SETTINGS = {
    "hasty": EdgeSettings(request_seconds=0.5, patience=1.5),
    "principal": EdgeSettings(principal_connections=1),
    "project": EdgeSettings(project_connections=1),
    "address": EdgeSettings(address_connections=1),
}


@contextmanager
def opened_world(jwks: str) -> Iterator[World]:
    """The servers, with content; at the end the viewers must have everything."""
    JWKS_FILE[:] = [jwks]
    with ExitStack() as stack:
        user = ["--user", "app", "on", f">{PASSWORD}", "~*", "&*", "+@all"]
        redis = stack.enter_context(start_redis(available_redis_kinds()[0], extra_args=user))
        bus = f"redis://app:{PASSWORD}@127.0.0.1:{redis.port}/0"
        environment = {
            "STAGECAST_BUS": bus,
            "STAGECAST_JWT_SECRET": SECRET,
            "STAGECAST_JWT_ISSUER": ISSUER,
            "STAGECAST_JWT_AUDIENCE": AUDIENCE,
            "STAGECAST_ACCESS_TICKET_SECRET": TICKET_SECRET,
            "STAGECAST_CORS_ORIGINS": PAGE,
            "STAGECAST_CORS_CREDENTIALS": "1",
            "STAGECAST_SSE_PATIENCE": "2",
        }
        programs = {name: stack.enter_context(running(SERVE, environment)) for name in ("one", "two")}
        for project, text in CONTENT.items():
            with RedisStreamPublisher(project, "rewrite", bus=bus) as done:
                assert done.publish_done(text)
                RUNS[project] = str(done.run_id)
        ports = {name: program.port for name, program in programs.items()}
        with RedisStreamPublisher(KEPT, "rewrite", bus=bus) as publisher:
            assert publisher.publish_token("begun ")
            world = World(bus, ports, publisher, [], stack, ["begun "])
            world.watchers.extend(Watcher(port) for port in ports.values())
            yield world
            world.assert_serves()
            assert publisher.publish_done()
        for watcher in world.watchers:
            watcher.join()
            assert watcher.text == "".join(world._sent)
            assert watcher.stream.events[-1].message["type"] in {"done", "stream_end"}
        log = "".join(program.output for program in programs.values())
        assert [one for one in (SECRET, TICKET_SECRET, PASSWORD, "Traceback") if one in log] == []


def comparable(answer: RawAnswer, project: str) -> bytes:
    """An answer without its time and what its client has sent itself."""
    head = re.sub(rb"(?im)^(date|retry-after): .*$", b"", answer.head)
    told = (head + b"\r\n\r\n" + answer.body).replace(project.encode(), b"<project>")
    return told.replace(project.replace("-", "%2D").encode(), b"<project>")


def assert_nothing_leaked(call: Call, answer: RawAnswer) -> None:
    """Nothing of a project's content, of a secret, of what was shown, and of the server's inside."""
    told = (answer.head + b"\n" + answer.body).decode("latin-1")
    shown = {value for _, value in call.headers if len(value) > 30} | set(re.findall(rb"[\w.-]{60,}", call.data))
    texts = [one.decode() if isinstance(one, bytes) else one for one in shown]
    runs = [one for one in RUNS.values() if one.encode() not in call.data]
    private = [*CONTENT.values(), *runs, SECRET, TICKET_SECRET, PASSWORD, *texts, *LEAKS]
    assert [one for one in private if one.lower() in told.lower()] == []


async def assert_refused(world: World, attempt: Attempt) -> None:
    """Refused, the same whether the project exists; nothing leaks; the twin passes, and everybody else goes on."""
    answers = []
    for project in (VAULT, UNKNOWN):
        async with attempt.held(world, project):
            call, answer = await world.ask(attempt.attack(world, project))
        assert answer.status == attempt.status, answer
        assert answer.head.startswith(b"HTTP/1.1 ")
        assert b"HTTP/1.1" not in answer.body, "one answer, not two"
        assert (attempt.status == 401) == (b"\r\nwww-authenticate: bearer" in answer.head.lower())
        assert (attempt.status == 429) == (b"\r\nretry-after: " in answer.head.lower())
        if call.method != "HEAD":
            assert b"content-type: application/problem+json" in answer.head.lower(), answer
            assert b'"status":%d' % attempt.status in answer.body
        assert_nothing_leaked(call, answer)
        answers.append(comparable(answer, project))
    assert answers[0] == answers[1], "it tells whether the project exists"
    await assert_passes(world, attempt.twin, attempt.twin_status)
    world.assert_serves()


async def assert_passes(world: World, twin: Callable[[World, str], Made], status: int = 200) -> None:
    """What is done right gets its project's text, and nothing of another's."""
    _, answer = await world.ask(twin(world, VAULT))
    assert answer.status == status, answer
    if status == 200 and b"text/event-stream" in answer.head:
        assert CONTENT[VAULT].encode() in answer.body
    assert CONTENT[MINE].encode() not in answer.body


def now(seconds: float) -> float:
    return time.time() + seconds
