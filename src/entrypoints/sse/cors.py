"""Which pages of other origins may read the streams. The rules are the Fetch standard's; the names are its own.

No middleware: each frame to each client would pass it. The headers are added where an answer's headers are made.
"""

import os
import re
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from attrs import field, frozen
from starlette.requests import Request
from starlette.responses import Response

from stagecast.domain.errors import NotConfigured

from .refusals import problem

ORIGINS_VARIABLE = "STAGECAST_CORS_ORIGINS"
CREDENTIALS_VARIABLE = "STAGECAST_CORS_CREDENTIALS"

ANY, OPAQUE = "*", "null"
METHODS = "GET", "HEAD"
REQUEST_HEADERS = "Accept", "Authorization", "Cache-Control", "Last-Event-ID"
"""What clients that use fetch send of their own; an EventSource needs no preflight."""
_ALLOWED_HEADERS = frozenset(name.lower() for name in REQUEST_HEADERS)
_RESPONSE_HEADERS = b"Retry-After, WWW-Authenticate"
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[1-9][0-9]{0,4})?", re.ASCII)
_DEFAULT_PORTS = re.compile(r"http://.*:80|https://.*:443")

RawHeaders: TypeAlias = list[tuple[bytes, bytes]]


def _frozen(origins: Iterable[str]) -> frozenset[str]:
    return frozenset(origins)


@frozen(kw_only=True)
class CorsSettings:
    """The origins whose pages may read the streams, and whether with the browser's credentials (cookies).

    `origins` are exact, as a browser writes them, or `*` for all; `null`, which any sandboxed page sends, counts only
    where it is listed itself. Raises NotConfigured for an origin that no browser sends, and for credentials with
    anything but exact origins: every page could read what its visitor may.
    """

    origins: frozenset[str] = field(converter=_frozen)
    credentials: bool = False
    max_age: int = 600
    """Seconds that a browser remembers the answer to a preflight."""

    def __attrs_post_init__(self) -> None:
        for origin in self.origins - {ANY, OPAQUE}:
            if not _ORIGIN.fullmatch(origin) or _DEFAULT_PORTS.fullmatch(origin):
                raise NotConfigured(
                    f"{origin!r} is not an origin as browsers send it: scheme://host[:port] in lower case, "
                    "without a path, a slash at the end or the scheme's default port"
                )
        if not self.origins:
            raise NotConfigured("CORS needs at least one origin")
        if ANY in self.origins and self.origins - {ANY, OPAQUE}:
            raise NotConfigured("CORS takes exact origins or *, not both")
        if self.credentials and self.origins & {ANY, OPAQUE}:
            raise NotConfigured("CORS with credentials needs exact origins: neither * nor null")

    def allows(self, origin: str) -> bool:
        """Whether a page of `origin` may read."""
        return origin in self.origins or (ANY in self.origins and origin != OPAQUE)

    def headers(self, request: Request) -> RawHeaders:
        """What every answer to `request` carries, refusals included: a page could not see why it was refused."""
        origin = request.headers.get("origin")
        if origin is None or not self.allows(origin):
            return [(b"vary", b"Origin")]
        return [*self._allowing(origin), (b"access-control-expose-headers", _RESPONSE_HEADERS), (b"vary", b"Origin")]

    def preflight(self, request: Request) -> Response | None:
        """The answer where `request` asks what a page may send; None where it asks something else.

        What a page may not is answered with 400 and the reason, which no browser needs and whoever looks for it does.
        """
        origin, method = request.headers.get("origin"), request.headers.get("access-control-request-method")
        if request.method != "OPTIONS" or origin is None or method is None:
            return None
        asked = request.headers.get("access-control-request-headers", "").split(",")
        wrong = [
            name
            for name, is_wrong in (
                ("origin", not self.allows(origin)),
                ("method", method not in METHODS),
                ("headers", not _ALLOWED_HEADERS.issuperset(one.strip().lower() for one in asked if one.strip())),
            )
            if is_wrong
        ]
        answer = problem(400, f"CORS does not allow this: {', '.join(wrong)}") if wrong else Response(status_code=204)
        if self.allows(origin):
            answer.raw_headers += self._allowing(origin)
        answer.raw_headers += [
            (b"access-control-allow-methods", ", ".join(METHODS).encode()),
            (b"access-control-allow-headers", ", ".join(REQUEST_HEADERS).encode()),
            (b"access-control-max-age", b"%d" % self.max_age),
            (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
        ]
        return answer

    def _allowing(self, origin: str) -> RawHeaders:
        if ANY in self.origins:
            return [(b"access-control-allow-origin", b"*")]
        allowing = [(b"access-control-allow-origin", origin.encode("latin-1"))]
        if self.credentials:
            allowing.append((b"access-control-allow-credentials", b"true"))
        return allowing


def configured_cors(environ: Mapping[str, str] = os.environ) -> CorsSettings | None:
    """The settings where STAGECAST_CORS_ORIGINS names origins, by commas. Raises NotConfigured for impossible ones."""
    found = frozenset(environ.get(ORIGINS_VARIABLE, "").replace(",", " ").split())
    asked = environ.get(CREDENTIALS_VARIABLE, "").strip()
    if asked not in {"", "0", "1"}:
        raise NotConfigured(f"{CREDENTIALS_VARIABLE} is 0 or 1, not {asked!r}")
    if not found:
        if asked == "1":
            raise NotConfigured(f"{CREDENTIALS_VARIABLE} needs exact origins: set {ORIGINS_VARIABLE}")
        return None
    try:
        return CorsSettings(origins=found, credentials=asked == "1")
    except NotConfigured as error:
        raise NotConfigured(f"{ORIGINS_VARIABLE}: {error}") from error
