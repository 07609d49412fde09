"""The answers that let a page of another origin read. The rules are the Fetch standard's; the names are its own.

No middleware: each frame to each client would pass it. The headers are added where an answer's headers are made.
"""

from collections.abc import Sequence
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from .refusals import refused
from .settings import ANY, CorsSettings

REQUEST_HEADERS = "Accept", "Authorization", "Cache-Control", "Content-Type", "Last-Event-ID"
"""What clients that use fetch send of their own, `Content-Type` for a ticket; an EventSource needs no preflight."""
_ALLOWED_HEADERS = frozenset(name.lower() for name in REQUEST_HEADERS)
_RESPONSE_HEADERS = b"Retry-After, WWW-Authenticate"
RawHeaders: TypeAlias = list[tuple[bytes, bytes]]


def allowing(cors: CorsSettings, request: Request) -> RawHeaders:
    """What every answer to `request` carries, refusals included: a page could not see why it was refused."""
    origin = request.headers.get("origin")
    if origin is None or not cors.allows(origin):
        return [(b"vary", b"Origin")]
    return [*_allowing(cors, origin), (b"access-control-expose-headers", _RESPONSE_HEADERS), (b"vary", b"Origin")]


def preflight(cors: CorsSettings, methods: Sequence[str], request: Request) -> Response | None:
    """The answer where `request` asks whether a page may send one of `methods`; None where it asks something else.

    What a page may not is answered with 400 and the reason, which no browser needs and whoever looks for it does.
    """
    origin, method = request.headers.get("origin"), request.headers.get("access-control-request-method")
    if request.method != "OPTIONS" or origin is None or method is None:
        return None
    asked = request.headers.get("access-control-request-headers", "").split(",")
    wrong = [
        name
        for name, is_wrong in (
            ("origin", not cors.allows(origin)),
            ("method", method not in methods),
            ("headers", not _ALLOWED_HEADERS.issuperset(one.strip().lower() for one in asked if one.strip())),
        )
        if is_wrong
    ]
    answer = (
        refused(request, 400, f"CORS does not allow this: {', '.join(wrong)}", reason="cors")
        if wrong
        else Response(status_code=204)
    )
    if cors.allows(origin):
        answer.raw_headers += _allowing(cors, origin)
    answer.raw_headers += [
        (b"access-control-allow-methods", ", ".join(methods).encode()),
        (b"access-control-allow-headers", ", ".join(REQUEST_HEADERS).encode()),
        (b"access-control-max-age", b"%d" % cors.max_age),
        (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    ]
    return answer


def _allowing(cors: CorsSettings, origin: str) -> RawHeaders:
    if ANY in cors.origins:
        return [(b"access-control-allow-origin", b"*")]
    allowing = [(b"access-control-allow-origin", origin.encode("latin-1"))]
    if cors.credentials:
        allowing.append((b"access-control-allow-credentials", b"true"))
    return allowing
