"""Tickets over HTTP: given to who shows a token, taken once where a stream begins."""

import asyncio
import json
import secrets
import time
from collections.abc import Sequence
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from stagecast.adapters.codec import dumps
from stagecast.domain.access import Access
from stagecast.domain.errors import AccessDenied, BusUnavailable, NotConfigured, Unauthenticated
from stagecast.domain.tickets import Ticket, TicketSigner, lifetime
from stagecast.domain.topics import Topic

from .credentials import bearer_of
from .edge import Edge
from .gate import Denied, Gate
from .paths import stream_of
from .refusals import NOSNIFF, refused, unauthenticated
from .sizes import TooLarge, bounded, too_large

METHODS = ("POST",)
SKEW = 60.0
"""Seconds that the clocks of two servers may differ: so much longer a use is remembered."""
NO_KEY = "this server gives no tickets: set STAGECAST_ACCESS_TICKET_SECRET"


class Tickets:
    """Signs and redeems; who remembers the uses is the edge's, and is asked for at the first one.

    `stagecast.entrypoints.sse.gate.Redeems`.
    """

    def __init__(self, edge: Edge, secrets: Sequence[str], seconds: float, patience: float) -> None:
        self._edge, self._secrets, self._seconds, self._patience = edge, secrets, seconds, patience

    def issued(self, topic: Topic, access: Access) -> tuple[str, float]:
        """A ticket for what is granted, and its seconds. Raises NotConfigured where there are none."""
        now = time.time()
        seconds = lifetime(access, now, self._seconds)
        ticket = Ticket(secrets.token_urlsafe(16), topic, now + seconds, access)
        return self._signer().signed(ticket), seconds

    async def redeem(self, text: str, topic: Topic) -> Access:
        """See `Redeems`."""
        now = time.time()
        try:
            ticket = self._signer().read(text, now)
        except NotConfigured as error:
            raise Unauthenticated("this server takes no tickets") from error
        if ticket.topic != topic:
            raise AccessDenied(f"the ticket is not for {topic}")
        try:
            async with asyncio.timeout(self._patience):
                is_first = await self._edge.used_tickets().spend(ticket.identifier, ticket.until - now + SKEW)
        except TimeoutError as error:
            raise BusUnavailable("the bus does not answer") from error
        if not is_first:
            raise Unauthenticated("the ticket has been used: ask for a new one")
        return ticket.access

    def _signer(self) -> TicketSigner:
        if not self._secrets:
            raise NotConfigured(NO_KEY)
        return TicketSigner(self._secrets, self._edge.used_tickets().scope)


class TicketOffice:
    """`POST /api/v1/sse/tickets`: 201 and a ticket for the topic that the body names, to who may read it."""

    def __init__(self, gate: Gate, tickets: Tickets, patience: float) -> None:
        self._gate, self._tickets, self._patience = gate, tickets, patience

    async def __call__(self, request: Request, topic: Topic) -> Response:
        access = await self._gate.admit(request, topic)
        assert access is not None
        try:
            ticket, seconds = self._tickets.issued(topic, access)
        except NotConfigured as error:
            raise Denied(refused(request, 501, str(error))) from error
        path = request.scope.get("root_path", "") + stream_of(topic)
        body = {"ticket": ticket, "expires_in": int(seconds), "url": f"{path}?ticket={quote(ticket, safe='')}"}
        headers = {"Cache-Control": "no-store", **NOSNIFF}
        return Response(dumps(body), 201, headers, media_type="application/json")

    async def topic_of(self, request: Request) -> Topic:
        """What the body names, which nobody without a token may make us read. Raises Denied and InvalidTopic."""
        if bearer_of(request) is None:
            error = Unauthenticated("a bearer token is needed, in the Authorization header")
            raise Denied(unauthenticated(request, error, had_token=False))
        try:
            async with asyncio.timeout(self._patience):
                body = await bounded(request)
        except TooLarge as error:
            raise Denied(too_large(request)) from error
        except (TimeoutError, ClientDisconnect) as error:
            raise Denied(refused(request, 408, "the body does not come", reason="slow")) from error
        try:
            named = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Denied(refused(request, 400, "the body is no JSON")) from error
        if not isinstance(named, dict) or "project_id" not in named:
            raise Denied(refused(request, 400, 'the body names no topic: {"project_id": ..., "stage_name": ...}'))
        return Topic.of(named["project_id"], named.get("stage_name"))
