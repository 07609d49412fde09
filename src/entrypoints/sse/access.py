"""Whose request it is: the credentials of a request, and the access policy that the environment configures."""

import os
from collections.abc import Mapping

from starlette.requests import Request

from stagecast.domain.access import AccessPolicy

COOKIE = "stagecast_token"
"""Where a browser's EventSource, which cannot set headers, carries its token."""
SECRET_VARIABLE = "STAGECAST_JWT_SECRET"  # noqa: S105  # a name, not a secret


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
