"""JWT access policy: bearer tokens whose claims name projects, stages and actions. Knows no HTTP."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from stagecast.domain.access import Access, AccessRequest
from stagecast.domain.errors import AccessDenied, NotConfigured, Unauthenticated

from .jwks import Jwks
from .keys import Key, of_file_or_text, of_secrets, package, separated

PROJECTS_CLAIM = "projects"
STAGES_CLAIM = "stages"
ACTIONS_CLAIM = "actions"
ALL_PROJECTS = "*"
DEFAULT_ACTIONS = ["read"]
"""Of a token that has no claim `actions`: who was to watch must not stop anything."""

_NOT_VALID = "the token is not valid"
"""The reason helps nobody but an attacker."""


class JwtAccessPolicy:
    """`stagecast.domain.access.AccessPolicy`: grants what the claims name, until `exp`.

    The keys are exactly one of `secret`, `public_key` (PEM, or the path of a file with it) and `jwks` (a URL or a
    path); `algorithms` fit them. A token of another `issuer` or `audience` is refused where these are given, and one
    that names an audience where none is.
    Raises NotConfigured for a missing package, a key that cannot be used, and what does not fit together.
    """

    def __init__(
        self,
        secret: str = "",
        *,
        algorithms: Iterable[str] = ("HS256",),
        former_secrets: Iterable[str] = (),
        public_key: str = "",
        jwks: str = "",
        issuer: str = "",
        audience: str = "",
        leeway: float = 0.0,
    ) -> None:
        self._jwt = package()
        named = [name for name, value in (("secret", secret), ("public_key", public_key), ("jwks", jwks)) if value]
        if len(named) > 1:
            raise NotConfigured(f"JWT: there is one way to have keys, not {' and '.join(named)}")
        is_symmetric, names = separated(algorithms)
        if is_symmetric != (named in ([], ["secret"])):
            raise NotConfigured(
                f"jwt.algorithms {', '.join(names)} cannot be verified with jwt.{named[0] if named else 'secret'}: "
                "secrets are for HS256, HS384 and HS512, public keys for all others"
            )
        if former_secrets and not is_symmetric:
            raise NotConfigured("jwt.former_secrets belong to jwt.secret")
        self.secrets = (secret, *former_secrets) if is_symmetric else ()
        """The secret, and those that are still taken; empty where public keys verify."""
        self._jwks = Jwks(self._jwt, jwks, names) if jwks else None
        self._keys: list[Key] = []
        if public_key:
            self._keys = [of_file_or_text(self._jwt, public_key, names)]
        elif not jwks:
            self._keys = of_secrets(self._jwt, self.secrets, names)
        self._issuer, self._audience, self._leeway = issuer or None, audience or None, leeway

    async def authorize(self, request: AccessRequest) -> Access:
        """Verify the token and look the wish up. Raises Unauthenticated, AccessDenied or AccessUnavailable."""
        if not request.token:
            raise Unauthenticated("a bearer token is needed")
        claims = self._verified(request.token, await self._keys_for(request.token))
        expires_at = _end(claims["exp"]) + self._leeway
        if not _covers(claims.get(PROJECTS_CLAIM), request.project):
            raise AccessDenied(f"the token does not grant project {request.project}")
        if STAGES_CLAIM in claims and not _names(claims[STAGES_CLAIM], request.stage):
            raise AccessDenied(f"the token does not grant {request.stage or 'all stages'} of project {request.project}")
        if not _names(claims.get(ACTIONS_CLAIM, DEFAULT_ACTIONS), request.action):
            raise AccessDenied(f"the token does not grant to {request.action}: see its claim {ACTIONS_CLAIM}")
        return Access(principal=claims.get("sub", ""), expires_at=expires_at)

    async def _keys_for(self, token: str) -> list[Key]:
        if self._jwks is None:
            return self._keys
        header = self._understood(partial(self._jwt.get_unverified_header, token))
        kid, algorithm = header.get("kid"), header.get("alg")
        if not isinstance(kid, str) or not isinstance(algorithm, str):
            raise Unauthenticated(_NOT_VALID)
        key = await self._jwks.find(kid, algorithm)
        return [] if key is None else [key]

    def _verified(self, token: str, keys: Iterable[Key]) -> Mapping[str, Any]:
        """The claims, by the first of `keys` that has signed them."""
        wrong: BaseException | None = None
        for key in keys:
            try:
                return self._understood(partial(self._decoded, token, key))
            except Unauthenticated as error:
                if not isinstance(error.__cause__, self._jwt.InvalidSignatureError):
                    raise
                wrong = error.__cause__
        raise Unauthenticated(_NOT_VALID) from wrong

    def _decoded(self, token: str, key: Key) -> Mapping[str, Any]:
        claims: Mapping[str, Any] = self._jwt.decode(
            token,
            key.material,
            algorithms=key.algorithms,
            issuer=self._issuer,
            audience=self._audience,
            leeway=self._leeway,
            options={"require": ["exp"]},
        )
        return claims

    def _understood(self, read: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        try:
            return read()
        except self._jwt.ExpiredSignatureError as error:
            raise Unauthenticated("the token has expired") from error
        except (self._jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            # ValueError: text that is no token at all.
            raise Unauthenticated(_NOT_VALID) from error


def _end(exp: object) -> float:
    """PyJWT takes whatever `int()` does, a text or a number beyond all floats for example."""
    try:
        seconds = float(exp) if isinstance(exp, int | float) and not isinstance(exp, bool) else math.nan
    except OverflowError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise Unauthenticated(_NOT_VALID)
    return seconds


def _covers(granted: object, project: str) -> bool:
    if granted == ALL_PROJECTS:
        return True
    if not isinstance(granted, list):
        return False
    return any(isinstance(one, str | int) and not isinstance(one, bool) and str(one) == project for one in granted)


def _names(granted: object, wanted: str | None) -> bool:
    return isinstance(granted, list) and wanted is not None and any(one == wanted for one in granted)
