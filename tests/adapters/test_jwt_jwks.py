"""The JWT policy with a set of keys (JWKS): which key verifies, when it is fetched, and what holds while it is away."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode

from stagecast.adapters.jwt import JwtAccessPolicy, jwks
from stagecast.domain.access import Access, AccessRequest
from stagecast.domain.errors import AccessUnavailable, NotConfigured, Unauthenticated
from tests.adapters.test_jwt_keys import ED, OTHER_RSA, P256, P384, RSA
from tests.sse.tokens import SECRET, token
from tests.waiting import eventually

ALGORITHMS = ["RS256", "ES256", "EdDSA"]


def entry(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    """A public key as a set has it."""
    kinds: dict[Any, Any] = {RSA: RSAAlgorithm, OTHER_RSA: RSAAlgorithm, ED: OKPAlgorithm}
    made = kinds.get(key, ECAlgorithm).to_jwk(key.public_key(), as_dict=True)
    return {**made, **({} if kid is None else {"kid": kid}), **more}


def signed(key: Any, kid: str | None, algorithm: str = "RS256") -> str:
    named: dict[str, Any] = {} if kid is None else {"kid": kid}
    return token(secret=key, algorithm=algorithm, projects="*", **named)


class Site:
    """Serves a set of keys; what it answers, and how, is for the test to say."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.body: bytes | None = None
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()
        self.url = ""


@contextmanager
def serving() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked += 1
            site.answers.wait(20)
            body = json.dumps({"keys": site.keys}).encode() if site.body is None else site.body
            self.send_response(site.status)
            for name, value in {"Content-Length": str(len(body)), **site.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):  # who asked has had enough
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}/keys"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield site
    finally:
        site.answers.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as made:
        made.keys = [entry(RSA, "one"), entry(P256, "two", alg="ES256", use="sig"), entry(ED, "three")]
        yield made


class Time:
    """A clock that stands until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    defaults = {**(jwks.Jwks.__init__.__kwdefaults__ or {}), "clock": made}
    monkeypatch.setattr(jwks.Jwks.__init__, "__kwdefaults__", defaults)
    return made


def policy_of(source: str, algorithms: list[str] = ALGORITHMS) -> JwtAccessPolicy:
    return JwtAccessPolicy(jwks=source, algorithms=algorithms)


async def authorized(policy: JwtAccessPolicy, credentials: str) -> Access:
    return await policy.authorize(AccessRequest(project="123", stage=None, token=credentials))


@pytest.mark.parametrize("of_file", [False, True])
async def test_the_named_key_verifies(site: Site, of_file: bool, tmp_path: Path) -> None:
    """By `kid`, from a URL or a file, once for all tokens; a token that names another key or none is refused."""
    source = site.url
    if of_file:
        path = tmp_path / "keys.json"
        path.write_text(json.dumps({"keys": site.keys}))
        source = str(path)
    policy = policy_of(source)
    assert site.asked == 0
    for key, kid, algorithm in ((RSA, "one", "RS256"), (P256, "two", "ES256"), (ED, "three", "EdDSA")):
        await authorized(policy, signed(key, kid, algorithm))
    for wrong in (
        signed(OTHER_RSA, "one"),
        signed(RSA, "two"),
        signed(RSA, None),
        signed(RSA, "unknown"),
        token(projects="*", kid="one"),
        token(projects="*", secret="", algorithm="none", kid="one"),
        "garbage",
    ):
        with pytest.raises(Unauthenticated):
            await authorized(policy, wrong)
    assert site.asked == (0 if of_file else 1)


@pytest.mark.parametrize(
    "unfit",
    [
        {"kty": "oct", "k": base64url_encode(SECRET.encode()).decode(), "kid": "bad"},
        entry(OTHER_RSA, "bad", use="enc"),
        entry(OTHER_RSA, "bad", alg="RS512"),
        entry(OTHER_RSA, "bad", alg="HS256"),
        entry(OTHER_RSA, None),
        entry(P384, "bad"),
        {"kty": "RSA", "kid": "bad"},
        {"kty": "RSA", "kid": "bad", "n": 1, "e": []},
        {"kid": "bad"},
        "bad",
        None,
    ],
)
async def test_a_key_that_is_not_for_us_is_left_out(site: Site, unfit: Any) -> None:
    """Secrets, keys of another use, algorithm or curve, and what is none; the others of the set are used."""
    site.keys.insert(0, unfit)
    policy = policy_of(site.url)
    await authorized(policy, signed(RSA, "one"))
    for wrong in (token(projects="*", kid="bad"), signed(OTHER_RSA, "bad"), signed(P384, "bad", "ES384")):
        with pytest.raises(Unauthenticated):
            await authorized(policy, wrong)


async def test_a_new_key_is_fetched_when_a_token_names_it(site: Site, clock: Time) -> None:
    """Once in a few seconds at the most, however many tokens name keys that nobody has."""
    policy = policy_of(site.url)
    await authorized(policy, signed(RSA, "one"))
    site.keys = [entry(OTHER_RSA, "new")]
    for _ in range(20):
        with pytest.raises(Unauthenticated):
            await authorized(policy, signed(OTHER_RSA, "new"))
    assert site.asked == 1
    clock.now += jwks.PAUSE
    await asyncio.gather(*(authorized(policy, signed(OTHER_RSA, "new")) for _ in range(20)))
    assert site.asked == 2
    with pytest.raises(Unauthenticated):
        await authorized(policy, signed(RSA, "one"))


async def test_a_withdrawn_key_is_noticed(site: Site, clock: Time) -> None:
    """After some minutes the set is fetched again without anybody waiting for it."""
    policy = policy_of(site.url)
    await authorized(policy, signed(RSA, "one"))
    site.keys = [entry(OTHER_RSA, "new")]
    clock.now += jwks.MAX_AGE + 1
    site.answers.clear()
    await authorized(policy, signed(RSA, "one"))
    site.answers.set()

    async def is_refused() -> bool:
        try:
            await authorized(policy, signed(RSA, "one"))
        except Unauthenticated:
            return True
        return False

    await eventually(is_refused, 20)


async def broken(site: Site, kind: str) -> None:
    site.status = {"error": 500, "elsewhere": 302}.get(kind, 200)
    bodies = {
        "garbage": b"<html>",
        "no set": b"[]",
        "no keys": b'{"keys": []}',
        "deep": b"[" * 100_000,
        "large": b'{"keys": [' + b" " * jwks.LARGEST + b"]}",
    }
    site.body = bodies.get(kind)
    if kind == "elsewhere":
        site.headers = {"Location": site.url + "?again"}


@pytest.mark.parametrize("kind", ["error", "elsewhere", "garbage", "no set", "no keys", "deep", "large"])
async def test_old_keys_hold_while_the_set_is_broken(site: Site, clock: Time, kind: str) -> None:
    """A token of a known key is verified, one of an unknown key is asked to come back; and the set is looked for."""
    policy = policy_of(site.url)
    await authorized(policy, signed(RSA, "one"))
    await broken(site, kind)
    clock.now += jwks.PAUSE
    with pytest.raises(AccessUnavailable):
        await authorized(policy, signed(OTHER_RSA, "new"))
    await authorized(policy, signed(RSA, "one"))
    assert site.asked == 2
    site.keys.append(entry(OTHER_RSA, "new"))
    site.status, site.body = 200, None
    clock.now += jwks.PAUSE
    await authorized(policy, signed(OTHER_RSA, "new"))


async def test_without_any_set_nobody_is_turned_away_for_good(clock: Time) -> None:
    """A URL that has never answered is a temporary failure, and is not asked for every token."""
    with serving() as site:
        site.status = 503
        policy = policy_of(site.url)
        for _ in range(3):
            with pytest.raises(AccessUnavailable):
                await authorized(policy, signed(RSA, "one"))
        assert site.asked == 1


async def test_a_slow_set_blocks_nobody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop goes on while a token waits for it, and the wait has an end."""
    monkeypatch.setattr(jwks, "PATIENCE", 0.3)
    site.answers.clear()
    waiting = asyncio.create_task(authorized(policy_of(site.url), signed(RSA, "one")))
    await eventually(lambda: site.asked == 1)
    with pytest.raises(AccessUnavailable):
        await waiting


async def test_who_stops_waiting_takes_nobody_along(site: Site) -> None:
    """A client that goes while the set is fetched cancels its own wait alone."""
    site.answers.clear()
    policy = policy_of(site.url)
    first, second = (asyncio.create_task(authorized(policy, signed(RSA, "one"))) for _ in range(2))
    await eventually(lambda: site.asked == 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    site.answers.set()
    assert (await second).principal == ""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("http://login.example/keys", "use https"),
        ("http://127.0.0.1.login.example/keys", "use https"),
        ("http://192.0.2.1/keys", "use https"),
        ("ftp://login.example/keys", "no https URL"),
        ("file:///etc/passwd", "no https URL"),
        ("https://", "no https URL"),
        ("/nowhere/keys.json", "/nowhere/keys.json"),
    ],
)
def test_a_source_that_anybody_could_answer_for_is_refused(source: str, reason: str) -> None:
    """Keys come by TLS, from this machine or from a file."""
    with pytest.raises(NotConfigured, match=reason):
        policy_of(source)
    for fine in ("https://login.example/keys", "http://localhost:1/keys", "http://[::1]:1/keys"):
        policy_of(fine)


@pytest.mark.parametrize("text", ["{}", "garbage", '{"keys": [{"kty": "oct", "k": "eA", "kid": "a"}]}', "[" * 10000])
def test_a_file_without_a_key_is_refused(text: str, tmp_path: Path) -> None:
    """When the server starts."""
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(NotConfigured, match=r"keys\.json"):
        policy_of(str(path))
