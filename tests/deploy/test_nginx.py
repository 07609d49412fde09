"""The shipped nginx.conf in a real nginx, seen by HTTP clients: what passes, how soon, and what is kept."""

from collections.abc import AsyncIterator, Iterator, Sequence

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.topics import Topic
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.testing.actors import Producer
from tests.deploy.conftest import HEARTBEAT
from tests.deploy.nginx import Nginx, directives, running_nginx
from tests.deploy.reading import EVENT_SOURCE, reading
from tests.servers import free_port
from tests.sse.browser import project_path, stage_path
from tests.sse.serving import Served, served

READ_TIMEOUT = 1.5
HASTY = {"proxy_read_timeout 75s;": f"proxy_read_timeout {int(READ_TIMEOUT * 1000)}ms;"}
COMPRESSING = {"server_tokens off;": "server_tokens off; gzip on; gzip_types *; gzip_min_length 1;"}
"""As for the pages and files that the same nginx may serve."""
BUFFERING = {"proxy_buffering off;": "proxy_buffering on;", "gzip off;": "gzip on; gzip_types *; gzip_min_length 1;"}
"""What nginx does where nobody has told it otherwise, and more."""
HOP_BY_HOP = {"connection", "keep-alive", "proxy-authenticate", "te", "trailer", "transfer-encoding", "upgrade"}


@pytest.fixture(scope="module")
def nginx(edge: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx with a short read timeout before `edge`, which compresses everything else."""
    with running_nginx(tmp_path_factory.mktemp("nginx") / "shipped", [edge.port], {**HASTY, **COMPRESSING}) as server:
        yield server


@pytest.fixture
async def client(nginx: Nginx) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(nginx) as made:
        yield made


def client_of(nginx: Nginx, *, http2: bool = True) -> httpx.AsyncClient:
    return httpx.AsyncClient(http2=http2, verify=nginx.trusting(), base_url=nginx.url, trust_env=False, timeout=15)


@pytest.mark.parametrize("http2", [True, False], ids=["http2", "http1"])
async def test_tokens_arrive_one_by_one(nginx: Nginx, bus: MemoryBus, project: str, http2: bool) -> None:
    """R124, R128: each token is here before the next is published; the headers are those of every stream."""
    producer = Producer(Topic(project, "rewrite"))
    async with client_of(nginx, http2=http2) as client, reading(client, stage_path(project)) as stream:
        assert stream.response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        headers = dict(stream.response.headers)
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert headers["cache-control"] == "no-cache, no-transform"
        assert headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in headers
        assert HOP_BY_HOP & headers.keys() == (set() if http2 else {"transfer-encoding", "connection"})
        assert (await stream.next())["type"] == "connected"
        for number in range(10):
            await producer.write(bus, f"{number} ")
            assert (await stream.next())["content"] == f"{number} "
        await producer.send(bus, producer.done())
        assert [message["type"] for message in await stream.rest()] == ["done", "stream_end"]


async def test_without_a_policy_other_machines_are_refused(
    edge: Served, client: httpx.AsyncClient, project: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Behind nginx all connections come from loopback: its word for whom it asks decides; this machine is served."""
    elsewhere = {"X-Forwarded-For $remote_addr;": "X-Forwarded-For 203.0.113.7;"}
    with running_nginx(tmp_path_factory.mktemp("nginx") / "elsewhere", [edge.port], elsewhere) as nginx:
        async with client_of(nginx) as another:
            answer = await another.get(stage_path(project))
            assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
            assert "for another machine" in answer.json()["detail"]
    async with reading(client, stage_path(project)) as stream:
        assert (await stream.next())["type"] == "connected"


async def test_an_nginx_that_buffers_is_told_not_to(
    edge: Served, bus: MemoryBus, project: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """R124: nginx's defaults, and even compression, hold nothing back: the application's own header forbids it."""
    producer = Producer(Topic(project, "rewrite"))
    with running_nginx(tmp_path_factory.mktemp("nginx") / "buffering", [edge.port], BUFFERING) as nginx:
        async with client_of(nginx) as client, reading(client, stage_path(project)) as stream:
            assert stream.response.headers["content-encoding"] == "gzip", "the shipped file's `gzip off` is needed"
            await stream.next()
            for number in range(5):
                await producer.write(bus, f"{number} ")
                assert (await stream.next())["content"] == f"{number} "


async def test_the_first_bytes_come_at_once(client: httpx.AsyncClient, bus: MemoryBus, project: str) -> None:
    """R131: one small event after connecting is seen before anything else is sent, without any padding."""
    producer = Producer(Topic(project, "rewrite"))
    await producer.write(bus, "一")
    async with reading(client, stage_path(project)) as stream:
        assert (await stream.next())["type"] == "connected"
        assert (await stream.next())["content"] == "一"
        assert len(stream.stream.raw) < 1000


async def test_a_quiet_stream_lives(client: httpx.AsyncClient, bus: MemoryBus, project: str) -> None:
    """R127: heartbeats keep nginx from closing a stream that is quiet for longer than its read timeout."""
    async with reading(client, stage_path(project)) as stream:
        await stream.next()
        await stream.until(lambda seen: len(seen.comments) * HEARTBEAT > 1.2 * READ_TIMEOUT)
        await Producer(Topic(project, "rewrite")).write(bus, "still here")
        assert (await stream.next())["content"] == "still here"


async def test_without_heartbeats_a_quiet_stream_would_be_closed(
    bus: MemoryBus, project: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """R127: that is what the heartbeat is for, and the shipped timeout is longer than any that can be set."""
    with served(create_app(bus, settings=EdgeSettings(heartbeat=30))) as silent:
        with running_nginx(tmp_path_factory.mktemp("nginx") / "silent", [silent.port], HASTY) as nginx:
            async with client_of(nginx) as client, reading(client, stage_path(project)) as stream:
                await stream.next()
                assert await stream.rest() == []
                assert stream.stream.comments == []
    assert [int(value.removesuffix("s")) > 2 * 30 for value in directives("proxy_read_timeout")] == [True]


class Scripted:
    """An application that answers with the status in the path's end, and tells what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.asked.append({**request.headers, "version": scope["http_version"], "client": scope["client"][0]})
        headers = {"X-Theirs": "1", "X-Accel-Buffering": "no"}
        status = int(request.url.path.strip("/").rpartition("/")[2])
        await JSONResponse({"status": status}, status, headers)(scope, receive, send)


@pytest.fixture(scope="module")
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture(scope="module")
def before_scripted(scripted: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx before an application that is not stagecast."""
    with served(scripted, lifespan="off") as server:
        with running_nginx(tmp_path_factory.mktemp("nginx") / "scripted", [server.port]) as nginx:
            yield nginx


def assert_asked_to_come_back(answers: Sequence[httpx.Response]) -> None:
    """Each is an empty stream with a time of its own."""
    times = set()
    for answer in answers:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache, no-transform"
        assert answer.headers["x-accel-buffering"] == "no"
        word, _, milliseconds = answer.text.partition(": ")
        assert (word, answer.text[-2:]) == ("retry", "\n\n")
        assert 1000 <= int(milliseconds) <= 5000
        times.add(milliseconds)
    assert len(times) > 4, "at random, and not by whole seconds"


@pytest.mark.parametrize("status", [502, 503, 504, None])
async def test_an_event_source_is_asked_to_come_back(
    before_scripted: Nginx, status: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """R135: a server that is away, or answers 502, 503 or 504, ends no EventSource; everybody else is told so."""
    if status is None:
        with running_nginx(tmp_path_factory.mktemp("nginx") / "away", [free_port(), free_port()]) as nginx:
            await assert_refused(nginx, project_path("p"))
    else:
        await assert_refused(before_scripted, project_path(str(status)))


async def assert_refused(nginx: Nginx, path: str) -> None:
    async with client_of(nginx) as client:
        origin = {**EVENT_SOURCE, "Origin": "https://app.example"}
        assert_asked_to_come_back([await client.get(path, headers=EVENT_SOURCE) for _ in range(12)])
        readable = await client.get(path, headers=origin)
        assert readable.headers["access-control-allow-origin"] == "https://app.example", "else the page gives up"
        assert readable.headers["access-control-allow-credentials"] == "true"
        assert "access-control-allow-origin" not in (await client.get(path, headers=EVENT_SOURCE)).headers
        told = await client.get(path)
        assert told.status_code == 503
        assert int(told.headers["retry-after"]) >= 1
        assert told.headers["content-type"] == "application/problem+json"
        assert told.json()["status"] == 503


@pytest.mark.parametrize("status", [200, 204, 400, 401, 403, 404, 429, 500])
async def test_other_answers_pass_as_they_are(before_scripted: Nginx, status: int) -> None:
    """The end of a topic (204) and final refusals are the application's own word."""
    async with client_of(before_scripted) as client:
        answer = await client.get(project_path(str(status)), headers=EVENT_SOURCE)
        assert answer.status_code == status
        assert answer.headers["x-theirs"] == "1"


async def test_what_the_application_is_told(before_scripted: Nginx, scripted: Scripted) -> None:
    """The last id and the credentials as sent; the client's address and scheme by nginx's word, not by the client's."""
    sent = {"Last-Event-ID": "17-4", "Authorization": "Bearer x", "X-Forwarded-For": "6.6.6.6"}
    async with client_of(before_scripted) as client:
        await client.get(project_path("200"), headers=sent)
    asked = scripted.asked[-1]
    assert asked["last-event-id"] == "17-4"
    assert asked["authorization"] == "Bearer x"
    assert asked["x-forwarded-for"] == "127.0.0.1"
    assert asked["x-forwarded-proto"] == "https"
    assert asked["host"] == "127.0.0.1"
    assert asked["version"] == "1.1"
    assert "connection" not in asked, "connections to the servers are kept"


async def test_the_access_log_keeps_no_secret(before_scripted: Nginx) -> None:
    """Who asked for which path, when, and what came of it: no query, no header."""
    headers = {
        "Authorization": "Bearer s3cret",
        "Cookie": "stagecast_token=s3cret",
        "Referer": "https://s3cret.example",
    }
    async with client_of(before_scripted) as client:
        await client.get(project_path("404", "token=s3cret"), headers=headers)
        await client.get(project_path("429"), headers=headers)
    log = before_scripted.access_log
    assert '"GET /api/v1/sse/projects/404/ HTTP/2.0" 404 ' in log
    assert "s3cret" not in log


async def test_what_else_is_asked_for(before_scripted: Nginx, scripted: Scripted) -> None:
    """Bodies, other paths and plain HTTP do not reach the application."""
    asked = len(scripted.asked)
    async with client_of(before_scripted) as client:
        assert (await client.post(project_path("200"), content=b"x" * 5000)).status_code == 413
        assert (await client.get("/200/")).status_code == 404
        plain = await client.get(f"http://127.0.0.1:{before_scripted.plain_port}{project_path('200')}")
        assert (plain.status_code, plain.headers["location"]) == (
            301,
            f"https://stagecast.example{project_path('200')}",
        )
    assert len(scripted.asked) == asked
