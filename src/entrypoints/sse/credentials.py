"""What a request shows of who sends it, and which page has sent it. Judges no credentials and grants nothing."""

from collections.abc import Mapping

from attrs import field, frozen
from starlette.requests import Request

from .settings import ANY, OPAQUE, CorsSettings

COOKIE = "stagecast_token"
"""Where a browser's EventSource, which cannot set headers, carries its token."""
TICKET = "ticket"
"""Where it carries a ticket, in the query."""
MISPLACED = frozenset({"token", "access_token", "jwt", "bearer", "authorization", "api_key"})
"""Names of a query's fields where others take tokens. URLs end up in logs, histories and Referer headers."""


@frozen
class Credentials:
    """What a request has of each kind; nothing of it is verified."""

    token: str | None = field(repr=False)
    """Of the Authorization header, scheme Bearer. None without one."""
    ticket: str | None = field(repr=False)
    cookies: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, request: Request) -> "Credentials":
        return cls(bearer_of(request), request.query_params.get(TICKET), request.cookies)

    @property
    def are_shown(self) -> bool:
        """Whether there is anything that could be wrong, rather than missing."""
        return self.token is not None or self.ticket is not None or bool(self.cookies.get(COOKIE))


def bearer_of(request: Request) -> str | None:
    """The token of the Authorization header. Of two headers neither counts: who knows which one a proxy has seen."""
    headers = request.headers.getlist("authorization")
    scheme, _, token = headers[0].strip().partition(" ") if len(headers) == 1 else ("", "", "")
    return token.strip() or None if scheme.lower() == "bearer" else None


def misplaced(request: Request) -> str | None:
    """The first name of a token in the query, if there is one."""
    return next((name.lower() for name in request.query_params if name.lower() in MISPLACED), None)


def is_foreign(request: Request, cors: CorsSettings) -> bool:
    """Whether a page has sent the request that is neither this server's own nor of an origin that `cors` names.

    A browser sends its cookies whichever page asks; what is no browser says nothing and is not foreign. `*` and `null`
    name nobody.
    """
    origin = request.headers.get("origin")
    if origin is None:
        return request.headers.get("sec-fetch-site", "").lower() == "cross-site"
    return origin not in cors.origins - {ANY, OPAQUE} and not _is_own(origin.lower(), request)


def _is_own(origin: str, request: Request) -> bool:
    scheme, _, host = origin.partition("://")
    # An origin has no default port. An https page may ask what seems to be http: TLS has ended at a proxy.
    asked = request.headers.get("host", "").lower().removesuffix(":443" if scheme == "https" else ":80")
    return host == asked and scheme in {"https", request.url.scheme} and bool(host)
