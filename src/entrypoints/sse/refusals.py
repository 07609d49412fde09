"""The answers that are no stream: problems as JSON, and the ways to ask a client to come back."""

import random
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stagecast.adapters.codec import dumps

from . import framing
from .response import Stream

COME_BACK_SECONDS = 1, 5
"""After how long a refused client comes back, at random."""


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as RFC 9457 has it."""
    fields = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(dumps(fields), status, headers, media_type="application/problem+json")


def unauthenticated(detail: str, *, had_token: bool) -> Response:
    """401. What was wrong with a token is said only to the log of who verifies it."""
    challenge = 'Bearer error="invalid_token"' if had_token else "Bearer"
    return problem(401, detail, {"WWW-Authenticate": challenge})


def come_back(request: Request, status: int, detail: str) -> Response | Stream:
    """A temporary refusal.

    A 429 or 5xx ends a browser's EventSource for good, so whoever asks for an event stream gets an empty one that
    says when to connect again; everybody else gets `status` with Retry-After.
    """
    seconds = random.uniform(*COME_BACK_SECONDS)  # noqa: S311
    if "text/event-stream" in request.headers.get("accept", "").lower():
        return Stream(framing.retry(int(seconds * 1000)))
    return problem(status, detail, {"Retry-After": str(round(seconds)), "Cache-Control": "no-store"})


async def on_http_exception(_: Request, error: Exception) -> Response:
    """Starlette's own errors, 404 and 405 among them, in the same form."""
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), error.headers)
