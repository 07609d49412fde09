"""Access by JWT: what a token has to be (`policy`), and the keys that it is verified with (`keys`, `jwks`)."""

from .policy import JwtAccessPolicy

__all__ = ["JwtAccessPolicy"]
