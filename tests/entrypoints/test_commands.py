"""The commands `tail`, `publish` and `doctor`, as a user meets them: real processes, a real server, a real terminal."""

import http.client
import json
import os
import pty
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stagecast import RedisStreamPublisher, RedisStreamSubscriber
from stagecast.adapters.redis.state import Keys
from stagecast.entrypoints import cli
from stagecast.entrypoints.commands.doctor import without_password
from tests.servers import RedisServer, available_redis_kinds, free_port, start_redis
from tests.sse.programs import BIN, CONFIGURATION, SERVE, Program, running
from tests.sse.tokens import SECRET, token
from tests.waiting import wait_until

STAGE = "rewrite"

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls the command line in this process, without configuration: exit code, standard output, standard error."""
    for name in CONFIGURATION:
        monkeypatch.delenv(name, raising=False)

    def called(*arguments: str) -> tuple[int, str, str]:
        try:
            code = cli.main(arguments)
        except SystemExit as end:
            code = int(str(end.code))
        output = capsys.readouterr()
        return code, output.out, output.err

    return called


def following(program: Program, server: RedisServer, project: str, number: int = 1) -> None:
    """Wait until `number` processes follow the project."""
    channel = Keys(project).feed.encode()

    def has_come() -> bool:
        assert program.process.poll() is None, program.output
        return bool(dict(client.pubsub_numsub(channel.decode()))[channel] == number)

    with server.client() as client:
        wait_until(has_come, 15)


def tail(server: RedisServer, *arguments: str) -> list[str]:
    return [str(BIN / "stagecast"), "tail", *arguments, "--bus", server.url]


# tail


@pytest.mark.parametrize(("end", "code"), [("done", 0), ("error", 1)])
def test_tail_writes_a_line_a_message_and_tells_the_end_by_its_exit_code(
    any_redis: RedisServer, project: str, end: str, code: int
) -> None:
    """Without a terminal: complete lines of text, one line for every other message."""
    with running(tail(any_redis, project, STAGE)) as program:
        following(program, any_redis, project)
        with RedisStreamPublisher(project, STAGE, bus=any_redis.url) as publisher:
            publisher.publish_stage_update("processing", 40, "half\nof it \x1b[31m")
            for token in ("Hel", "lo\nwor", "ld"):
                publisher.publish_token(token)
            if end == "done":
                publisher.publish_done()
            else:
                publisher.publish_error("no more paper")
        assert program.exit_code(10) == code
    last = "done" if end == "done" else "error no more paper"
    expected = ["stage_update processing 40% half of it \ufffd[31m", "Hello", "world", last]
    assert program.output.splitlines() == [f"{STAGE}: {line}" for line in expected]


@pytest.mark.parametrize(("end", "code"), [("pipeline_done", 0), ("pipeline_error", 1)])
def test_tail_of_a_project_in_json_ends_with_the_pipeline(
    any_redis: RedisServer, project: str, end: str, code: int
) -> None:
    """One JSON object a line; a stage's end is no end of the project."""
    with running(tail(any_redis, project, "--json")) as program:
        following(program, any_redis, project)
        with RedisStreamPublisher(project, STAGE, bus=any_redis.url) as publisher:
            publisher.publish_token("你好\n")
            publisher.publish_done()
            if end == "pipeline_done":
                publisher.publish_pipeline_done()
            else:
                publisher.publish_pipeline_error("no more paper")
        assert program.exit_code(10) == code
    messages = [json.loads(line) for line in program.output.splitlines()]
    assert [message["type"] for message in messages] == ["token", "done", end]
    assert messages[0]["full_text"] == "你好\n"


def test_tail_draws_bars_in_a_terminal(any_redis: RedisServer, project: str) -> None:
    """With a terminal: a bar with its percentage, the status and the text."""
    ours, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen(
        tail(any_redis, project, STAGE), env=environment, stdin=subprocess.DEVNULL, stdout=its, stderr=its
    )
    os.close(its)
    try:
        with any_redis.client() as client:
            channel = Keys(project).feed
            wait_until(lambda: dict(client.pubsub_numsub(channel))[channel.encode()] == 1, 15)
        with RedisStreamPublisher(project, STAGE, bus=any_redis.url) as publisher:
            publisher.publish_stage_update("processing", 40, "half")
            publisher.publish_token("Hello\nworld")
            publisher.publish_done()
        drawn = read_all(ours)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    for text in ("━", "40 %", "processing half", "world", "100 %"):
        assert text in drawn


def read_all(terminal: int) -> str:
    """What was written to a terminal until its other side was closed."""
    found = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # how Linux tells the end
            piece = b""
        if not piece:
            return found.decode()
        found += piece


def test_tail_in_a_terminal_names_the_extra_that_is_missing(
    any_redis: RedisServer, project: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, and what to install."""
    monkeypatch.setitem(sys.modules, "rich.live", None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code, _, error = call("tail", project, "--bus", any_redis.url)
    assert code == 2
    assert "pip install 'stagecast[cli]'" in error


def test_tail_gives_up_in_time(any_redis: RedisServer, project: str, call: Call) -> None:
    """Exit code 3 where no message comes."""
    assert call("tail", project, "--timeout", "0.05", "--bus", any_redis.url) == (
        3,
        "",
        "stagecast: no message for 0.05 s\n",
    )


def test_tail_ends_quietly_with_who_reads_it(any_redis: RedisServer, project: str) -> None:
    """As in `stagecast tail ... | head -1`: no trace."""
    process = subprocess.Popen(
        tail(any_redis, project, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process, RedisStreamPublisher(project, STAGE, bus=any_redis.url) as publisher:
        publisher.publish_token("one")
        assert json.loads(process.stdout.readline())["content"] == "one"
        process.stdout.close()
        publisher.publish_token("two")
        assert process.wait(10) == 141
        assert process.stderr is not None
        assert process.stderr.read() == ""


# publish


def test_publish_sends_an_event_of_each_kind(any_redis: RedisServer, project: str, call: Call) -> None:
    """Values are read as JSON where they parse, else as text; nothing is printed."""
    calls = [
        ("stage_update", "status=processing", "progress=40"),
        ("token", "content=a = b"),
        ("progress", "current=3", "total=4"),
        ("item_completed", "item_type=image", "sequence_number=1", 'metadata={"url": "/1.png"}'),
        ("of_mine", "number=42", 'text="42"', "odd=NaN"),
        ("error", "error=404"),
        ("pipeline_done",),
    ]
    with RedisStreamSubscriber(project, bus=any_redis.url) as subscriber:
        for arguments in calls:
            assert call("publish", project, STAGE, *arguments, "--bus", any_redis.url) == (0, "", "")
        messages = list(subscriber.listen(5))
    assert [message["type"] for message in messages] == [arguments[0] for arguments in calls]
    assert messages[0]["progress"] == 40
    assert messages[1]["content"] == "a = b"
    assert messages[2]["progress"] == 75
    assert messages[3]["metadata"] == {"url": "/1.png"}
    assert [messages[4][name] for name in ("number", "text", "odd")] == [42, "42", "NaN"]
    assert messages[5]["error"] == "404"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["token", "content=42"], """content='"42"'"""),
        (["token", "contents=x"], "its fields are content, full_text"),
        (["stage_update", "status=processing", "progress=much"], "progress"),
    ],
)
def test_publish_refuses_what_is_no_such_event(
    any_redis: RedisServer, project: str, call: Call, arguments: list[str], reason: str
) -> None:
    """Exit code 1 and one line that says what is wrong."""
    code, output, error = call("publish", project, STAGE, *arguments, "--bus", any_redis.url)
    assert (code, output, error.count("\n")) == (1, "", 1)
    assert reason in error


def test_publish_fails_where_the_bus_is_away(project: str, call: Call) -> None:
    """Exit code 1 after the timeout; the event is dropped, not kept for later."""
    bus = f"redis://127.0.0.1:{free_port()}/0"
    code, output, error = call("publish", project, STAGE, "token", "content=x", "--bus", bus, "--timeout", "0.2")
    assert (code, output) == (1, "")
    assert "not acknowledged within 0.2 s" in error
    assert "stagecast doctor" in error


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["tail", "p"], "no bus is configured"),
        (["tail", "p*", "--bus", "redis://127.0.0.1:1/0"], "project id must not contain '*'"),
        (["tail", "p", "--bus", "redis://127.0.0.1:1/0"], "127.0.0.1:1"),
        (["tail", "p", "--bus", "memory://"], "reaches this process only"),
        (["tail", "p", "--timeout", "soon"], "no number of seconds"),
        (["tail"], "PROJECT"),
        (["publish", "p", "s", "done"], "no bus is configured"),
        (["publish", "p", "s", "done", "--bus", "memory://"], "reaches this process only"),
        (["publish", "p", "s/", "done", "--bus", "redis://127.0.0.1:1/0"], "stage name must not contain '/'"),
        (["publish", "p", "s", "done", "text", "--bus", "memory://"], "key=value"),
        (["publish", "p", "s", "done", "type=error", "--bus", "memory://"], "the type stands before"),
    ],
)
def test_wrong_command_lines_are_refused(call: Call, arguments: list[str], reason: str) -> None:
    """Exit code 2, the reason on standard error, nothing on standard output."""
    code, output, error = call(*arguments)
    assert (code, output) == (2, "")
    assert reason in error


# doctor


def verdicts(output: str) -> dict[str, dict[str, Any]]:
    """The findings of `doctor --json` by their check."""
    return {finding["check"]: finding for finding in map(json.loads, output.splitlines())}


def test_doctor_finds_a_good_bus_good(redis_server: RedisServer, project: str, call: Call) -> None:
    """Exit code 0, a line a check, and nothing of it stays on the server."""
    with (
        RedisStreamSubscriber(project, bus=redis_server.url) as subscriber,
        RedisStreamPublisher(project, STAGE, bus=redis_server.url) as publisher,
        redis_server.client() as client,
    ):
        publisher.publish_token("x")
        assert subscriber.get_message(5)
        wait_until(lambda: client.pubsub_channels("stagecast:*") == [Keys(project).feed.encode()])
        before = set(client.keys())
        code, output, _ = call("doctor", "--json", "--bus", redis_server.url)
        assert set(client.keys()) == before
    found = verdicts(output)
    assert code == 0, output
    measured = {"ping", "clock", "round trip"}  # a busy machine is slow
    assert all(one["verdict"] == "ok" or check in measured for check, one in found.items()), output
    assert list(found) == [
        "configured",
        "ping",
        "version",
        "memory",
        "output buffer",
        "connections",
        "clock",
        "keys",
        "projects",
        "subscribers",
        "round trip",
    ]
    assert f"1 with a run in progress ({project})" in found["projects"]["found"]
    assert found["subscribers"]["found"].startswith("1 subscriptions to 1 channels")


def test_doctor_says_what_is_wrong_and_what_to_do(call: Call) -> None:
    """An evicting policy, buffers too small, few connections, and a key without a TTL."""
    limits = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", "--maxclients", "20"]
    buffer = ["--client-output-buffer-limit", "pubsub 1mb 1mb 60"]
    with start_redis(available_redis_kinds()[0], extra_args=[*limits, *buffer]) as server:
        with server.client() as client:
            client.set("stagecast:1:{old}:log", "for ever")
        code, output, _ = call("doctor", "--bus", server.url, "--json")
        found = verdicts(output)
        assert code == 1
        assert {check for check, one in found.items() if one["verdict"] == "problem"} == {
            "memory",
            "output buffer",
            "keys",
        }
        assert found["connections"]["verdict"] == "warning"
        assert "maxmemory-policy noeviction" in found["memory"]["advice"]
        assert "stagecast:1:{old}:log" in found["keys"]["found"]
        with server.client() as client:
            client.delete("stagecast:1:{old}:log")
            client.config_set("maxmemory-policy", "volatile-lru")
            client.config_set("client-output-buffer-limit", "pubsub 32mb 8mb 60")
        code, output, _ = call("doctor", "--bus", server.url)
        assert code == 0
        assert "warning  memory: maxmemory-policy volatile-lru, maxmemory 104857600 -> " in output


def test_doctor_where_there_is_no_server_or_no_bus(call: Call) -> None:
    """One problem each, and exit code 1."""
    code, output, _ = call("doctor", "--json", "--bus", f"redis://someone:secret@127.0.0.1:{free_port()}/0")
    assert (code, verdicts(output)["reachable"]["verdict"]) == (1, "problem")
    assert "secret" not in output
    code, output, _ = call("doctor")
    assert (code, output.count("\n")) == (1, 1)
    assert output.startswith("problem  configured: no bus is configured")


def test_doctor_on_the_memory_bus_says_what_does_not_apply(call: Call) -> None:
    """The round trip is made; the server's checks and a server of another process are skipped."""
    code, output, _ = call("doctor", "--json", "--bus", "memory://", "--url", "http://127.0.0.1:1/")
    assert code == 0
    assert {check: one["verdict"] for check, one in verdicts(output).items()} == {
        "configured": "ok",
        "server": "skipped",
        "round trip": "ok",
        "through the server": "skipped",
    }


def test_doctor_shows_no_password() -> None:
    """Neither of the user's part nor of the query."""
    assert without_password("redis://me:secret@host:1/2?password=secret") == "redis://host:1/2?..."


@contextmanager
def buffering_proxy(port: int) -> Iterator[int]:
    """A proxy in front of `port` that passes an answer on when it is complete; its own port."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            upstream.request("GET", self.path)
            answer = upstream.getresponse()
            body = answer.read()
            upstream.close()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield proxy.server_port
        finally:
            proxy.shutdown()
            thread.join()


def test_doctor_goes_through_a_server_and_finds_a_proxy_that_buffers(any_redis: RedisServer, call: Call) -> None:
    """Tokens arrive one by one from the server itself, and at once at the end behind such a proxy."""
    with running(SERVE, {"STAGECAST_BUS": any_redis.url}) as program:
        arguments = ["doctor", "--json", "--bus", any_redis.url, "--url"]
        code, output, _ = call(*arguments, f"http://127.0.0.1:{program.port}/")
        assert code == 0, output
        assert "arrived one by one" in verdicts(output)["through the server"]["found"]
        with buffering_proxy(program.port) as port:
            code, output, _ = call(*arguments, f"http://127.0.0.1:{port}")
        assert code == 1
        assert verdicts(output)["through the server"]["found"] == "tokens arrive only when the stream ends"
        assert "proxy_buffering off" in verdicts(output)["through the server"]["advice"]
        code, output, _ = call(*arguments, f"http://127.0.0.1:{program.port}/elsewhere")
        assert (code, verdicts(output)["through the server"]["found"]) == (1, "the answer is 404 Not Found")
    for url in (f"http://127.0.0.1:{free_port()}/", "ftp://x"):
        code, output, _ = call(*arguments, url)
        assert (code, verdicts(output)["through the server"]["verdict"]) == (1, "problem")
    with any_redis.client() as client:
        assert client.keys("*doctor*") == []


def test_doctor_goes_through_a_server_with_a_policy(
    any_redis: RedisServer, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With STAGECAST_TOKEN it takes the routes that ask the policy; without, it says what to set."""
    with running(SERVE, {"STAGECAST_BUS": any_redis.url, "STAGECAST_JWT_SECRET": SECRET}) as program:
        arguments = ["doctor", "--json", "--bus", any_redis.url, "--url", f"http://127.0.0.1:{program.port}/"]
        for credentials, code, found in (
            (None, 1, "the answer is 404 Not Found"),
            ("garbage", 1, "the answer is 401 Unauthorized"),
            (token(projects="*"), 0, "arrived one by one"),
        ):
            if credentials is not None:
                monkeypatch.setenv("STAGECAST_TOKEN", credentials)
            ended, output, _ = call(*arguments)
            finding = verdicts(output)["through the server"]
            assert (ended, found in finding["found"]) == (code, True), output
            assert ("STAGECAST_TOKEN" in finding["advice"]) == (code == 1)


@pytest.mark.parametrize(("secret", "is_told"), [("short", True), (SECRET, False)])
def test_doctor_tells_of_a_policy_that_no_server_starts_with(
    call: Call, monkeypatch: pytest.MonkeyPatch, secret: str, is_told: bool
) -> None:
    """The access policy that is configured here is examined too, where there is one."""
    monkeypatch.setenv("STAGECAST_JWT_SECRET", secret)
    code, output, _ = call("doctor", "--json", "--bus", "memory://")
    assert (code, "access" in verdicts(output)) == ((1, True) if is_told else (0, False))


def test_the_documentation_shows_commands_that_there_are() -> None:
    """Each console line of docs/troubleshooting.md is a right command line."""
    page = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text()
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) > 5
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "stagecast"
        assert callable(cli._parser().parse_args(arguments).command)


def test_the_commands_are_installed() -> None:
    """`stagecast --help` names them."""
    done = subprocess.run([str(BIN / "stagecast"), "--help"], capture_output=True, text=True, check=True)
    for name in ("serve", "tail", "publish", "doctor"):
        assert f"\n    {name} " in done.stdout
