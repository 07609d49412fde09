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
from .tally import Tally

NOSNIFF = {"X-Content-Type-Options": "nosniff"}
"""Of every answer: a body is never taken for anything but what it says it is."""
COME_BACK_SECONDS = 1, 5
"""After how long a refused client comes back, at random."""

_REASONS = {400: "malformed", 401: "credentials", 403: "access", 404: "unknown", 405: "method", 503: "unavailable"}
"""What a refusal is counted as that gives no reason of its own."""


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as RFC 9457 has it."""
    fields = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    # A shared cache would answer others with it, 404 and 405 above all, which it may keep without being told.
    headers = {"Cache-Control": "no-store", **(headers or {}), **NOSNIFF}
    return Response(dumps(fields), status, headers, media_type="application/problem+json")


def refused(
    request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None, *, reason: str = ""
) -> Response:
    """A problem that keeps a viewer away. `reason`: what it is counted as, where the status says too little."""
    _note(request, status, detail, reason)
    return problem(status, detail, headers)


def unauthenticated(request: Request, error: Exception, *, had_token: bool) -> Response:
    """401. What was wrong with a token is said only to the log, and only by the kind of error."""
    cause = f" ({type(error.__cause__).__name__})" if error.__cause__ else ""
    _note(request, 401, f"{error}{cause}")
    challenge = 'Bearer error="invalid_token"' if had_token else "Bearer"
    return problem(401, str(error), {"WWW-Authenticate": challenge})


def come_back(request: Request, status: int, detail: str, *, reason: str = "") -> Response | Stream:
    """A temporary refusal; `reason` as in `refused`.

    A 429 or 5xx ends a browser's EventSource for good, so whoever asks for an event stream gets an empty one that
    says when to connect again; everybody else gets `status` with Retry-After.
    """
    _note(request, status, detail, reason)
    seconds = random.uniform(*COME_BACK_SECONDS)  # noqa: S311
    if "text/event-stream" in request.headers.get("accept", "").lower():
        return Stream(framing.retry(int(seconds * 1000)))
    return problem(status, detail, {"Retry-After": str(round(seconds))})


def _note(request: Request, status: int, detail: str, reason: str = "") -> None:
    """Count it, and one line. That has nothing of the headers, where credentials come, and not much of the rest."""
    names, detail = "/".join(str(name) for name in request.path_params.values())[:200], detail[:300]
    line = f"{names if names.isprintable() else ascii(names)}: a viewer is refused ({status}): {detail}"
    tally: Tally = request.app.state.edge.refusals
    tally.note(status, reason or _REASONS.get(status, "other"), line if line.isprintable() else ascii(line))


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own errors, 404 and 405 among them, in the same form."""
    assert isinstance(error, HTTPException)
    _note(request, error.status_code, str(error.detail), "route")
    return problem(error.status_code, str(error.detail), error.headers)
