"""The command `stagecast serve`, as a user meets it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

import stagecast
from stagecast.entrypoints.sse.server import is_loopback
from tests.servers import free_port
from tests.sse.browser import request, stage_path
from tests.sse.programs import CONFIGURATION, SERVE, UVICORN, running
from tests.waiting import wait_until

SECRET = "a secret of the tests, long enough for HS256"


def stagecast_says(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command that ends by itself."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(CONFIGURATION)}
    done = subprocess.run(
        [str(Path(sys.executable).parent / "stagecast"), *arguments],
        env={**inherited, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_version() -> None:
    """`stagecast --version` says it on one line."""
    assert stagecast_says("--version") == (0, f"stagecast {stagecast.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--bus", "memory://", "--host", "0.0.0.0"], "STAGECAST_JWT_SECRET"),
        (["--bus", "memory://", "--host", "::"], "--allow-public"),
        (["--bus", "carrier-pigeon://x"], "no transport for carrier-pigeon://"),
        (["--bus", "nonsense"], "no transport"),
        ([], "no bus is configured"),
    ],
)
def test_what_cannot_be_served_is_refused_on_one_line(arguments: list[str], reason: str) -> None:
    """Exit code 2, one line on standard error that says what to do, no trace."""
    code, output, error = stagecast_says("serve", "--port", "0", *arguments)
    assert (code, output) == (2, "")
    assert error.startswith("stagecast: error: ")
    assert error.count("\n") == 1
    assert reason in error


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("JWT_SECRET", "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----"),
        ("JWT_SECRET", "a short secret"),
        ("JWT_FORMER_SECRETS", SECRET.replace(" ", "-")),
        ("ACCESS_TICKET_SECRET", "a short secret"),
    ],
)
def test_a_secret_that_cannot_be_used_is_refused(variable: str, value: str) -> None:
    """A public key is no secret, a short one protects nothing, and a former one is none without a new one."""
    code, _, error = stagecast_says("serve", "--bus", "memory://", environment={f"STAGECAST_{variable}": value})
    assert (code, error.count("\n")) == (2, 1)
    assert "secret" in error
    assert value not in error


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "redis"])
def test_a_missing_extra_is_named(missing: str, tmp_path: Path) -> None:
    """Where a package is not installed the message says which extra brings it."""
    blocker = f"import sys; sys.modules[{missing!r}] = None"
    (tmp_path / "sitecustomize.py").write_text(blocker)
    code, _, error = stagecast_says(
        "serve", "--bus", "redis://127.0.0.1:1/0", environment={"PYTHONPATH": str(tmp_path)}
    )
    assert code == 2
    assert f"pip install 'stagecast[{'redis' if missing == 'redis' else 'sse'}]'" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(["--allow-public"], {}), ([], {"STAGECAST_JWT_SECRET": SECRET})],
    ids=["allowed", "with a policy"],
)
def test_a_public_address_is_served_where_that_is_safe_or_wanted(
    arguments: list[str], environment: dict[str, str]
) -> None:
    """With a policy, or with --allow-public."""
    with running([*SERVE, "--bus", "memory://", "--host", "0.0.0.0", *arguments], environment) as program:
        wait_until(lambda: "serving on http://0.0.0.0:" in program.output or program.process.poll() is not None, 20)
        assert "stagecast: serving on http://0.0.0.0:" in program.output


@pytest.mark.parametrize("proxies", ["10.0.0.0/33", "proxy.example", "127.0.0.1,", "*,127.0.0.1", "10.0.0.1/8"])
def test_proxies_that_would_never_be_found_are_refused(proxies: str) -> None:
    """What is neither an address nor a network would be trusted by nobody, and said by nobody."""
    code, _, error = stagecast_says("serve", "--bus", "memory://", "--forwarded-allow-ips", proxies)
    assert code == 2
    assert "argument --forwarded-allow-ips: " in error


@pytest.mark.parametrize(
    ("arguments", "variable", "is_trusted"),
    [
        ([], "", True),
        ([], "192.0.2.1", False),
        (["--forwarded-allow-ips", "192.0.2.1, 2001:db8::/32"], "", False),
        (["--forwarded-allow-ips", "127.0.0.0/8"], "192.0.2.1", True),
    ],
    ids=["loopback", "the variable", "the option", "the option before the variable"],
)
async def test_whose_x_forwarded_for_counts(arguments: list[str], variable: str, *, is_trusted: bool) -> None:
    """Loopback's, else that of the proxies which are named; what anybody else says of an address changes nothing."""
    environment = {"STAGECAST_BUS": "memory://", "STAGECAST_SSE_ADDRESS_CONNECTIONS": "1"}
    environment |= {"FORWARDED_ALLOW_IPS": variable} if variable else {}
    with running([*SERVE, "--allow-public", *arguments], environment) as program:
        port = await asyncio.to_thread(lambda: program.port)
        async with request(port, stage_path("p"), {"X-Forwarded-For": "203.0.113.1"}) as viewer:
            await viewer.next()
            async with request(port, stage_path("p"), {"X-Forwarded-For": "203.0.113.2"}) as another:
                assert another.status == (200 if is_trusted else 429)


@pytest.mark.parametrize(("arguments", "status"), [([], 404), (["--open-routes"], 200)])
async def test_the_open_routes_are_opened_by_name(arguments: list[str], status: int) -> None:
    """With a policy the routes without `stream/` are gone, unless --open-routes; the others ask for a token."""
    environment = {"STAGECAST_BUS": "memory://", "STAGECAST_JWT_SECRET": SECRET}
    with running([*SERVE, *arguments], environment) as program:
        port = await asyncio.to_thread(lambda: program.port)
        for path, expected in ((stage_path("p"), status), (stage_path("p") + "stream/", 401)):
            async with request(port, path) as response:
                assert response.status == expected


async def test_it_says_where_it_serves() -> None:
    """The URL of the address it really has, and a warning where no other process can publish."""
    port = free_port()
    with running([*SERVE, "--port", str(port)], {"STAGECAST_BUS": "memory://"}) as program:
        assert await asyncio.to_thread(lambda: program.port) == port
        async with request(port, stage_path("p")) as browser:
            assert (await browser.next()).message["type"] == "connected"
        assert f"stagecast: serving on http://127.0.0.1:{port}/\n" in program.lines
        assert "memory:// reaches this process only" in program.output


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.1.1", False),
    ],
)
def test_which_addresses_are_loopback(host: str, *, expected: bool) -> None:
    """Whatever is not certainly loopback counts as public."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize(("url", "says_so"), [("memory://", True), ("redis://127.0.0.1:1/0", False)])
async def test_one_of_several_processes_says_what_it_cannot_see(url: str, says_so: bool) -> None:
    """R148: On a bus of one process a server of several warns, and says what to set."""
    port = free_port()
    command = [*UVICORN[:-1], str(port), "--workers", "2"]
    with running(command, {"STAGECAST_BUS": url}) as program:
        await asyncio.to_thread(wait_until, lambda: "startup complete" in program.output, 20)
        async with request(port, "/readyz") as response:
            assert response.status in {200, 503}
        await asyncio.to_thread(wait_until, lambda: not says_so or "STAGECAST_BUS=redis://" in program.output, 10)
        assert ("one of several processes" in program.output) == says_so
        program.process.terminate()
        program.exit_code(20)
