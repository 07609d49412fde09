"""The AccessPolicy port: who may do what with a project; and that of used tickets. Knows no token format, no HTTP."""

from collections.abc import Mapping
from typing import Literal, Protocol, TypeAlias

from attrs import field, frozen

Action: TypeAlias = Literal["read", "cancel"]
"""`read` follows a topic, `cancel` asks a stage's run to stop."""


@frozen(kw_only=True)
class AccessRequest:
    """A wish to do something with a topic, and the credentials it came with."""

    project: str
    stage: str | None
    """None for all stages of the project."""
    token: str | None = field(repr=False)
    """The bearer token, from the Authorization header or a cookie; None where neither had one."""
    action: Action = "read"
    cookies: Mapping[str, str] = field(factory=dict, repr=False)
    """What a browser keeps for this server, an own session for example. Empty where a foreign page sent them."""


@frozen(kw_only=True)
class Access:
    """A granted wish."""

    principal: str
    """Who it is: limits of connections count by it. Empty for nobody in particular, who is not counted."""
    expires_at: float | None = None
    """When access ends, in seconds since the epoch; None for never."""


class AccessPolicy(Protocol):
    """Decides before the first byte of an answer is sent. It is asked once a connection, and concurrently."""

    async def authorize(self, request: AccessRequest) -> Access:
        """Grant the wish. Raises Unauthenticated (401) or AccessDenied (403).

        Any other error, and any other answer than an Access, counts as a temporary failure, as AccessUnavailable does:
        nothing is granted, and the client is asked to come back.
        Whatever the decision needs is given back before the method returns.
        """
        ...


class UsedTickets(Protocol):
    """Remembers which tickets were used, for all processes that take the same tickets."""

    scope: bytes
    """What those processes have in common: a part of the tickets' key. Empty where the key says it all."""

    async def spend(self, identifier: str, seconds: float) -> bool:
        """True for the first who asks, False for all others, for `seconds` at least.

        Raises BusUnavailable where nobody knows; then the ticket counts as used or not, but never twice as unused.
        """
        ...

    async def aclose(self) -> None:
        """Free what the running event loop holds. Idempotent; the object can be used again."""
        ...
