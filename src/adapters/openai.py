"""A client of OpenAI-compatible chat completions, streamed. Knows HTTP and that protocol, and nothing of stages."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from stagecast.domain.errors import NotConfigured, StagecastError

if TYPE_CHECKING:
    import httpx

URL_VARIABLE = "STAGECAST_LLM_BASE_URL"
KEY_VARIABLE = "STAGECAST_LLM_API_KEY"
MODEL_VARIABLE = "STAGECAST_LLM_MODEL"

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 120.0
"""How long a model may take between two pieces; the first one includes its reading of the prompt."""
TEMPERATURE = 0.4
REPETITION = 0.5
"""The frequency penalty: without it a small model goes round in circles."""


class ModelFailed(StagecastError):
    """The model's server cannot be reached, has refused, or broke off; the message says which."""


class ChatModel:
    """One model of one server. Each `stream` is a request of its own; nothing is kept open between them."""

    def __init__(self, base_url: str, name: str, api_key: str | None = None) -> None:
        self.name = name
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def stream(self, prompt: str, *, max_tokens: int) -> Iterator[str]:
        """The answer to `prompt`, piece by piece. Raises ModelFailed, NotConfigured where httpx is missing.

        An iterator that is closed early ends the request, and so the generation.
        """
        httpx, httpx_sse = _clients()
        body = {
            "model": self.name,
            "messages": [{"role": "user", "content": prompt}],
            "stream": True,
            "max_tokens": max_tokens,
            "temperature": TEMPERATURE,
            "frequency_penalty": REPETITION,
        }
        timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
        is_finished = False
        try:
            with (
                httpx.Client(timeout=timeout, headers=self._headers) as client,
                httpx_sse.connect_sse(client, "POST", self._url, json=body) as source,
            ):
                _check_status(source.response)
                for event in source.iter_sse():
                    if not event.data:  # an id or a retry alone, which the parser gives too
                        continue
                    if event.data.strip() == "[DONE]":
                        is_finished = True
                        break
                    piece, is_last = _read(event.data)
                    is_finished = is_finished or is_last
                    if piece:
                        yield piece
        except httpx_sse.SSEError as error:
            raise ModelFailed(f"{self._url} answered no event stream: {error}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ModelFailed(f"{self._url} failed: {error or type(error).__name__}") from error
        if not is_finished:
            raise ModelFailed(f"{self._url} broke off in the middle of its answer")


def from_environment(environ: Mapping[str, str] = os.environ) -> ChatModel | None:
    """The model of STAGECAST_LLM_BASE_URL, _MODEL and _API_KEY; None where no URL is set. Raises NotConfigured."""
    url, name = environ.get(URL_VARIABLE, "").strip(), environ.get(MODEL_VARIABLE, "").strip()
    if not url:
        return None
    if not url.startswith(("http://", "https://")):
        raise NotConfigured(f"{URL_VARIABLE} must begin with http:// or https://, not {url!r}")
    if not name:
        raise NotConfigured(f"{URL_VARIABLE} is set: set {MODEL_VARIABLE} to the model's name too")
    _clients()
    return ChatModel(url, name, environ.get(KEY_VARIABLE, "").strip() or None)


def _clients() -> tuple[Any, Any]:
    try:
        import httpx
        import httpx_sse
    except ModuleNotFoundError as error:
        raise NotConfigured(
            f"a language model needs the package {error.name}: pip install 'stagecast[demo]'"
        ) from error
    return httpx, httpx_sse


def _check_status(response: "httpx.Response") -> None:
    if response.is_success:
        return
    response.read()
    try:
        detail = _error_text(response.json())
    except ValueError:
        detail = response.text.strip()[:200]
    raise ModelFailed(f"{response.url} answered {response.status_code}: {detail or response.reason_phrase}")


def _read(data: str) -> tuple[str, bool]:
    """The text in one chunk, and whether the model says that it is the last one."""
    try:
        chunk = json.loads(data)
        if "error" in chunk:
            raise ModelFailed(f"the model failed: {_error_text(chunk)}")
        choices = chunk["choices"]
        if not choices:  # a last chunk with the usage alone
            return "", False
        return choices[0].get("delta", {}).get("content") or "", bool(choices[0].get("finish_reason"))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelFailed(f"the model's server sent what is no completion chunk: {data[:200]!r}") from error


def _error_text(answer: Any) -> str:
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    return str(error.get("message", error) if isinstance(error, dict) else error)
