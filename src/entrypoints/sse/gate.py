"""Who may pass: the rules before every handler. Knows no stream and no bus."""

import asyncio
import time
from collections.abc import Collection
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from stagecast.domain.access import Access, AccessPolicy, AccessRequest, Action
from stagecast.domain.errors import AccessDenied, AccessUnavailable, Unauthenticated
from stagecast.domain.topics import Topic

from .credentials import COOKIE, Credentials, is_foreign, misplaced
from .locality import foreign
from .refusals import refused, unauthenticated
from .settings import CorsSettings

FOREIGN = "pages of this origin may not use cookies here: see STAGECAST_CORS_ORIGINS"


class Denied(Exception):
    """The request is refused; `answer` says why."""

    def __init__(self, answer: Response) -> None:
        super().__init__(answer.status_code)
        self.answer = answer


class Redeems(Protocol):
    """Takes tickets."""

    async def redeem(self, text: str, topic: Topic) -> Access:
        """What a ticket opens, once. Raises Unauthenticated or AccessDenied, and BusUnavailable where nobody knows."""
        ...


class Gate:
    """Without a policy only this machine passes, unless `allow_public`; `guarded` asks the policy.

    `patience` seconds are given to it. `hosts` are names of this machine. Tickets count where something redeems them.
    """

    def __init__(
        self,
        policy: AccessPolicy | None,
        cors: CorsSettings,
        *,
        guarded: bool,
        allow_public: bool,
        patience: float,
        hosts: Collection[str] = (),
        tickets: Redeems | None = None,
    ) -> None:
        self._policy, self._cors, self._guarded, self._allow_public = policy, cors, guarded, allow_public
        self._patience, self._hosts, self._tickets = patience, hosts, tickets

    async def admit(self, request: Request, topic: Topic, action: Action = "read") -> Access | None:
        """What is granted; None where nobody is asked. Raises Denied, AccessUnavailable and BusUnavailable."""
        if self._policy is None and not self._allow_public and (why := foreign(request, self._hosts)) is not None:
            raise Denied(refused(request, 403, why.detail, reason=why.reason))
        if (self._policy is not None or self._guarded) and (name := misplaced(request)) is not None:
            detail = (
                f"the query has {name}: URLs end up in logs, so no token is taken from one. Send it as Authorization: "
                "Bearer; for an EventSource, which has no headers, POST /api/v1/sse/tickets gives a ?ticket= for it"
            )
            raise Denied(refused(request, 400, detail))
        if not self._guarded:
            return None
        credentials = Credentials.of(request)
        try:
            return await self._granted(request, credentials, topic, action)
        except Unauthenticated as error:
            raise Denied(unauthenticated(request, error, had_token=credentials.are_shown)) from error
        except AccessDenied as error:
            raise Denied(refused(request, 403, str(error))) from error

    async def _granted(self, request: Request, shown: Credentials, topic: Topic, action: Action) -> Access:
        """By the first that is there: the header's token, the ticket, what the browser keeps."""
        if self._policy is None:
            raise Unauthenticated("this server has no access policy: set STAGECAST_JWT_SECRET")
        token, cookies = shown.token, shown.cookies
        if token is None and shown.ticket is not None:
            if self._tickets is None:
                raise Unauthenticated("a ticket opens streams, nothing else")
            return _current(await self._tickets.redeem(shown.ticket, topic))
        if cookies and is_foreign(request, self._cors):
            if token is None:
                raise AccessDenied(FOREIGN)
            cookies = {}
        asked = AccessRequest(
            project=topic.project,
            stage=topic.stage,
            token=token or cookies.get(COOKIE) or None,
            action=action,
            cookies=cookies,
        )
        try:
            async with asyncio.timeout(self._patience):
                return _current(await self._policy.authorize(asked))
        except TimeoutError as error:
            raise AccessUnavailable("the access policy does not answer") from error


def _current(access: object) -> Access:
    """`access` as long as it lasts. A policy that answers something else has granted nothing."""
    if not isinstance(access, Access):
        raise TypeError(f"the access policy has answered with a {type(access).__name__}")
    if access.expires_at is not None and not time.time() < access.expires_at:  # NaN too
        raise Unauthenticated("access has ended")
    return access
