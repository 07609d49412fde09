"""Whose request it is: the credentials of a request, and the access policy that the environment configures."""

import ipaddress
import os
from collections.abc import Mapping

from starlette.requests import Request
from starlette.types import Scope

from stagecast.domain.access import AccessPolicy

COOKIE = "stagecast_token"
"""Where a browser's EventSource, which cannot set headers, carries its token."""
SECRET_VARIABLE = "STAGECAST_JWT_SECRET"  # noqa: S105  # a name, not a secret


PUBLIC_VARIABLE = "STAGECAST_ALLOW_PUBLIC"


def is_public(scope: Scope) -> bool:
    """Whether the connection came in on another address of this machine than loopback; False where nobody can tell."""
    host, _ = scope.get("server") or ("", None)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a socket's path, or the name that a test client uses
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return not (mapped or address).is_loopback


def public_is_allowed(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether STAGECAST_ALLOW_PUBLIC says that streams may be served to everybody who reaches this machine."""
    return environ.get(PUBLIC_VARIABLE, "").strip() in {"1", "true", "on"}


def token_of(request: Request) -> str | None:
    """The bearer token: of the Authorization header, else of the cookie."""
    scheme, _, credentials = request.headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and (token := credentials.strip()):
        return token
    return request.cookies.get(COOKIE) or None


def configured_policy(environ: Mapping[str, str] = os.environ) -> AccessPolicy | None:
    """The JWT policy where STAGECAST_JWT_SECRET is set. Raises NotConfigured where it cannot be had."""
    secret = environ.get(SECRET_VARIABLE, "")
    if not secret:
        return None
    from stagecast.adapters.jwt import JwtAccessPolicy

    return JwtAccessPolicy(secret)
