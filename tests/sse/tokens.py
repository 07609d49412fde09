"""Tokens for tests: signed as a test wants, and the header that carries them."""

import time
from typing import Any

import jwt

SECRET = "a secret of the tests, long enough for HS256"


def token(*, secret: Any = SECRET, algorithm: str = "HS256", seconds: float | None = 60, **claims: Any) -> str:
    """A JWT with these claims that ends in `seconds`; a claim `kid` goes into the header."""
    headers = {"kid": claims.pop("kid")} if "kid" in claims else None
    if seconds is not None:
        claims["exp"] = time.time() + seconds
    return jwt.encode(claims, secret, algorithm=algorithm, headers=headers)


def bearer(credentials: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {credentials}"}
