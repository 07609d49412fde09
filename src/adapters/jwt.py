"""JWT access policy: bearer tokens signed with a shared secret (HS256), whose claims name the projects."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from stagecast.domain.access import Access, AccessRequest
from stagecast.domain.errors import AccessDenied, NotConfigured, Unauthenticated

ALGORITHMS = ("HS256",)
"""Fixed: a token does not choose how it is verified."""
PROJECTS_CLAIM = "projects"
ALL_PROJECTS = "*"


class JwtAccessPolicy:
    """`stagecast.domain.access.AccessPolicy`: grants what the claim `projects` lists, ids or "*", until `exp`.

    Raises NotConfigured for a missing package or a secret that PyJWT refuses; of one below 32 bytes PyJWT warns.
    """

    def __init__(self, secret: str) -> None:
        self._jwt = _pyjwt()
        self._secret = secret
        try:
            self._jwt.encode({}, secret, algorithm=ALGORITHMS[0])
        except self._jwt.PyJWTError as error:
            raise NotConfigured(f"the JWT secret cannot be used: {error}") from error

    async def authorize(self, request: AccessRequest) -> Access:
        """Verify the token and look the project up. Raises Unauthenticated or AccessDenied."""
        if not request.token:
            raise Unauthenticated("a bearer token is needed")
        claims = self._verified(request.token)
        granted = claims.get(PROJECTS_CLAIM)
        if not _covers(granted, request.project):
            raise AccessDenied(f"the token does not grant project {request.project}")
        return Access(principal=str(claims.get("sub", "")), expires_at=float(claims["exp"]))

    def _verified(self, token: str) -> Mapping[str, Any]:
        try:
            claims: Mapping[str, Any] = self._jwt.decode(
                token, self._secret, algorithms=list(ALGORITHMS), options={"require": ["exp"]}
            )
        except self._jwt.ExpiredSignatureError as error:
            raise Unauthenticated("the token has expired") from error
        except (self._jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            # The reason helps nobody but an attacker; ValueError: text that is no token at all.
            raise Unauthenticated("the token is not valid") from error
        return claims


def _covers(granted: object, project: str) -> bool:
    if granted == ALL_PROJECTS:
        return True
    if not isinstance(granted, list):
        return False
    return any(isinstance(one, str | int) and not isinstance(one, bool) and str(one) == project for one in granted)


def _pyjwt() -> ModuleType:
    try:
        import jwt
    except ModuleNotFoundError as error:
        raise NotConfigured("JWT access needs the package PyJWT: pip install 'stagecast[jwt]'") from error
    return jwt
