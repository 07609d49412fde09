"""The client of chat completions against a real HTTP server that speaks the protocol, and ones that don't."""

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from stagecast.adapters import openai
from stagecast.adapters.openai import ChatModel, ModelFailed
from stagecast.domain.errors import NotConfigured
from tests.servers import free_port
from tests.sse.serving import served

Answer = Callable[[dict[str, Any]], Response]
PIECES = ["The", " boat", " 👩‍🚀", "", " 船来了", "。\n", "end"]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """The base URL of a server whose chat completions are `answer`."""

    async def complete(request: Request) -> Response:
        if request.headers.get("authorization") != "Bearer secret":
            return JSONResponse({"error": {"message": "wrong key", "type": "auth"}}, 401)
        return answer(await request.json())

    app = Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])
    with served(app) as server:
        yield f"http://127.0.0.1:{server.port}/v1"


def chunk(content: str | None, finish: str | None = None) -> str:
    delta = {} if content is None else {"content": content}
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def event_stream(*datas: str, line_end: str = "\n") -> Answer:
    """An answer that is an event stream of these data, sent byte by byte."""

    async def body() -> AsyncIterator[bytes]:
        stream = ": a comment\n\nid: 7\n\n".replace("\n", line_end) + "".join(
            f"data: {data}{line_end * 2}" for data in datas
        )
        for byte in stream.encode():
            yield bytes([byte])

    return lambda request: StreamingResponse(body(), media_type="text/event-stream")


def answer_of(answer: Answer, key: str = "secret") -> list[str]:
    with serving(answer) as url:
        return list(ChatModel(url, "small", key).stream("Tell me.", max_tokens=9))


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_the_answer_comes_piece_by_piece(line_end: str) -> None:
    """Comments, an id alone, a first chunk with the role alone and a last one with the usage alone are no text."""
    role = json.dumps({"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]})
    usage = json.dumps({"choices": [], "usage": {"total_tokens": 9}})
    chunks = [role, *map(chunk, PIECES), chunk(None, "stop"), usage, "[DONE]"]
    assert answer_of(event_stream(*chunks, line_end=line_end)) == [piece for piece in PIECES if piece]


def test_the_request_is_what_the_protocol_wants() -> None:
    """Model, one user message, streaming, a bound of tokens."""
    seen: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> Response:
        seen.append(request)
        return event_stream(chunk("x", "stop"), "[DONE]")(request)

    answer_of(answer)
    assert seen[0]["model"] == "small"
    assert seen[0]["messages"] == [{"role": "user", "content": "Tell me."}]
    assert seen[0]["stream"] is True
    assert seen[0]["max_tokens"] == 9


def test_a_server_that_never_says_done_ends_with_a_finish_reason() -> None:
    """`[DONE]` is custom, not required."""
    assert answer_of(event_stream(chunk("x"), chunk(None, "length"))) == ["x"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (event_stream(chunk("x")), "broke off"),
        (event_stream(chunk("x"), '{"error": {"message": "out of memory"}}'), "out of memory"),
        (event_stream(chunk("x"), "not json"), "chunk: .not json"),
        (event_stream('{"choices": "?"}'), "chunk: .{.choices"),
        (lambda request: JSONResponse({"choices": []}), "no event stream"),
        (lambda request: JSONResponse({"error": {"message": "no such model"}}, 404), "404: no such model"),
        (lambda request: Response("<h1>Bad gateway</h1>", 502), "502: <h1>Bad gateway"),
        (lambda request: Response(status_code=503), "503: Service Unavailable"),
    ],
)
def test_each_failure_is_told_with_its_reason(answer: Answer, reason: str) -> None:
    """Whatever goes wrong is a ModelFailed that says what."""
    with pytest.raises(ModelFailed, match=reason):
        answer_of(answer)


def test_a_wrong_key_is_told() -> None:
    """The server's own words are in the message, the key is not."""
    with pytest.raises(ModelFailed, match="401: wrong key") as failure:
        answer_of(event_stream(), key="wrong-secret")
    assert "wrong-secret" not in str(failure.value)


def test_nobody_there_is_told() -> None:
    """A refused connection names the URL."""
    port = free_port()
    with pytest.raises(ModelFailed, match=f"127.0.0.1:{port}"):
        list(ChatModel(f"http://127.0.0.1:{port}/v1", "small").stream("x", max_tokens=1))


def test_leaving_early_ends_the_request() -> None:
    """A superseded stage stops its generation: the server sees the connection go."""
    is_gone = threading.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield f"data: {chunk('word ')}\n\n".encode()
                await anyio.sleep(0.01)  # let the server see the disconnect
        finally:
            is_gone.set()

    with serving(lambda request: StreamingResponse(endless(), media_type="text/event-stream")) as url:
        pieces = ChatModel(url, "small", "secret").stream("x", max_tokens=1)
        assert next(pieces) == "word "
        pieces.close()  # type: ignore[attr-defined]
        assert is_gone.wait(10)


def test_the_environment_names_a_model() -> None:
    """URL, model and key; nothing where no URL is set."""
    assert openai.from_environment({}) is None
    found = openai.from_environment({openai.URL_VARIABLE: "http://x/v1/", openai.MODEL_VARIABLE: "small"})
    assert found is not None
    assert found.name == "small"


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({openai.URL_VARIABLE: "http://x/v1"}, openai.MODEL_VARIABLE),
        ({openai.URL_VARIABLE: "x:8080", openai.MODEL_VARIABLE: "small"}, "http://"),
    ],
)
def test_half_a_configuration_is_refused(environ: dict[str, str], reason: str) -> None:
    """With the name of the variable to set."""
    with pytest.raises(NotConfigured, match=reason):
        openai.from_environment(environ)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's packages are an extra."""
    monkeypatch.setitem(__import__("sys").modules, "httpx_sse", None)
    with pytest.raises(NotConfigured, match=r"httpx_sse: pip install 'stagecast\[demo\]'"):
        openai.from_environment({openai.URL_VARIABLE: "http://x", openai.MODEL_VARIABLE: "small"})
