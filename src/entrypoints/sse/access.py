"""Whose request it is: the credentials of a request, and the access policy that the environment configures."""

import ipaddress

from starlette.requests import Request
from starlette.types import Scope

from stagecast.domain.access import AccessPolicy
from stagecast.entrypoints import configuration

COOKIE = "stagecast_token"
"""Where a browser's EventSource, which cannot set headers, carries its token."""


def is_public(scope: Scope) -> bool:
    """Whether the connection came in on another address of this machine than loopback; False where nobody can tell."""
    host, _ = scope.get("server") or ("", None)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a socket's path, or the name that a test client uses
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return not (mapped or address).is_loopback


def token_of(request: Request) -> str | None:
    """The bearer token: of the Authorization header, else of the cookie."""
    scheme, _, credentials = request.headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and (token := credentials.strip()):
        return token
    return request.cookies.get(COOKIE) or None


def configured_policy() -> AccessPolicy | None:
    """The JWT policy where a secret is configured. Raises NotConfigured where it cannot be had."""
    secret = configuration.current().jwt.secret
    if not secret:
        return None
    from stagecast.adapters.jwt import JwtAccessPolicy

    return JwtAccessPolicy(secret)
