"""The AccessPolicy port: who may follow a project. Knows no token format and no HTTP."""

from typing import Protocol

from attrs import frozen


@frozen(kw_only=True)
class AccessRequest:
    """A wish to follow a topic, and the credentials it came with."""

    project: str
    stage: str | None
    """None for all stages of the project."""
    token: str | None
    """The bearer token, from the Authorization header or a cookie; None where neither had one."""


@frozen(kw_only=True)
class Access:
    """A granted wish."""

    principal: str
    """Who follows: limits of connections count by it."""
    expires_at: float | None = None
    """When access ends, in seconds since the epoch; None for never."""


class AccessPolicy(Protocol):
    """Decides before the first byte of an answer is sent. It is asked once a connection, and concurrently."""

    async def authorize(self, request: AccessRequest) -> Access:
        """Grant the wish. Raises Unauthenticated (401) or AccessDenied (403).

        Any other error counts as a temporary failure: nothing is granted, and the client is asked to come back.
        Whatever the decision needs is given back before the method returns.
        """
        ...
