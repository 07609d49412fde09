"""The answers that are no stream: problems as JSON, and the ways to ask a client to come back."""

import logging
import random
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stagecast.adapters.codec import dumps

from . import framing
from .response import Stream

logger = logging.getLogger("stagecast.sse")

COME_BACK_SECONDS = 1, 5
"""After how long a refused client comes back, at random."""


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as RFC 9457 has it."""
    fields = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(dumps(fields), status, headers, media_type="application/problem+json")


def refused(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem that keeps a viewer away."""
    _log(request, status, detail)
    return problem(status, detail, headers)


def unauthenticated(request: Request, error: Exception, *, had_token: bool) -> Response:
    """401. What was wrong with a token is said only to the log, and only by the kind of error."""
    cause = f" ({type(error.__cause__).__name__})" if error.__cause__ else ""
    _log(request, 401, f"{error}{cause}")
    challenge = 'Bearer error="invalid_token"' if had_token else "Bearer"
    return problem(401, str(error), {"WWW-Authenticate": challenge})


def come_back(request: Request, status: int, detail: str) -> Response | Stream:
    """A temporary refusal.

    A 429 or 5xx ends a browser's EventSource for good, so whoever asks for an event stream gets an empty one that
    says when to connect again; everybody else gets `status` with Retry-After.
    """
    _log(request, status, detail)
    seconds = random.uniform(*COME_BACK_SECONDS)  # noqa: S311
    if "text/event-stream" in request.headers.get("accept", "").lower():
        return Stream(framing.retry(int(seconds * 1000)))
    return problem(status, detail, {"Retry-After": str(round(seconds)), "Cache-Control": "no-store"})


def _log(request: Request, status: int, detail: str) -> None:
    """One line a refusal. It has nothing of the headers, where credentials come."""
    names = "/".join(str(name) for name in request.path_params.values())[:200]
    logger.info("%s: a viewer is refused (%d): %s", names if names.isprintable() else ascii(names), status, detail)


async def on_http_exception(_: Request, error: Exception) -> Response:
    """Starlette's own errors, 404 and 405 among them, in the same form."""
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), error.headers)
