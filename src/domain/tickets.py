"""Tickets: grants that are signed, end soon and open one topic once. Knows no HTTP, and not who remembers their use."""

import base64
import hashlib
import hmac
import json
import math
from collections.abc import Sequence

from attrs import frozen

from .access import Access
from .errors import Unauthenticated
from .topics import Topic

LARGEST = 4096
"""Characters of a ticket, which travels in a URL."""
_PURPOSE = b"stagecast ticket 1"
"""What the key of a ticket is for: nothing else that the same secret signs is ever one."""
_NOT_VALID = "the ticket is not valid"


@frozen
class Ticket:
    """What a ticket says. Times are seconds since the epoch."""

    identifier: str
    """Random: by it the use is remembered."""
    topic: Topic
    until: float
    """When it can be used at the latest."""
    access: Access
    """What it opens: the grant of the token that it was given for."""


class TicketSigner:
    """Signs by the first of `secrets`, takes the signatures of all; `scope` is part of the key."""

    def __init__(self, secrets: Sequence[str], scope: bytes = b"") -> None:
        self._keys = [hmac.digest(one.encode(), _PURPOSE + scope, hashlib.sha256) for one in secrets]

    def signed(self, ticket: Ticket) -> str:
        """The text of a ticket, fit for a URL. Whoever has it can read it."""
        access, topic = ticket.access, ticket.topic
        said = [
            ticket.identifier,
            topic.project,
            topic.stage,
            ticket.until,
            access.principal,
            access.expires_at,
        ]
        body = _encoded(json.dumps(said, separators=(",", ":")).encode())
        return f"{body}.{_signature(self._keys[0], body)}"

    def read(self, text: str, now: float) -> Ticket:
        """The ticket that one of us has signed, and that is not over at `now`. Raises Unauthenticated."""
        body, _, signature = text.rpartition(".")
        if len(text) > LARGEST or not text.isascii():
            raise Unauthenticated(_NOT_VALID)
        # In constant time: how long it takes tells nothing of a signature.
        if not any(hmac.compare_digest(_signature(key, body), signature) for key in self._keys):
            raise Unauthenticated(_NOT_VALID)
        identifier, project, stage, until, principal, expires_at = json.loads(_decoded(body))
        if not now < until:
            raise Unauthenticated("the ticket is over: ask for a new one")
        return Ticket(identifier, Topic(project, stage), until, Access(principal=principal, expires_at=expires_at))


def lifetime(access: Access, now: float, most: float) -> float:
    """Seconds that a ticket for `access` may live: no longer than what it stands for."""
    return min(most, (math.inf if access.expires_at is None else access.expires_at) - now)


def _signature(key: bytes, body: str) -> str:
    return _encoded(hmac.digest(key, body.encode("ascii"), hashlib.sha256))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
