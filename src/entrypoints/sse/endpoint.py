"""From a request to a stream, or to the answer that says why there is none; all before the first byte."""

import logging
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from stagecast.domain.access import Access, AccessPolicy, AccessRequest
from stagecast.domain.errors import (
    AccessDenied,
    BusUnavailable,
    InvalidPosition,
    InvalidTopic,
    NotConfigured,
    Unauthenticated,
)
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic

from .access import is_public, token_of
from .cors import METHODS, allowing, preflight
from .edge import Edge
from .refusals import come_back, refused, unauthenticated
from .response import EventStream, Stream
from .settings import CorsSettings
from .viewer import Draining, Finished, TooManyViewers, UnknownRun, ViewRequest

logger = logging.getLogger("stagecast.sse")

NO_OTHER_ORIGIN = CorsSettings()

Answer: TypeAlias = Response | Stream | EventStream


class StreamEndpoint:
    """One kind of route: a request becomes a stream, or the answer that says why not."""

    def __init__(
        self,
        edge: Edge,
        policy: AccessPolicy | None,
        cors: CorsSettings = NO_OTHER_ORIGIN,
        *,
        guarded: bool,
        allow_public: bool = False,
    ) -> None:
        self._edge, self._policy, self._cors, self._guarded = edge, policy, cors, guarded
        self._allow_public = allow_public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answered(Request(scope, receive))  # the request is not kept while the stream lives
        await answer(scope, receive, send)

    async def _answered(self, request: Request) -> Answer:
        if not self._cors.origins:
            return await self._answer_or_come_back(request)
        if (permission := preflight(self._cors, request)) is not None:  # carries no credentials: no policy is asked
            return permission
        answer = await self._answer_or_come_back(request)
        answer.raw_headers += allowing(self._cors, request)
        return answer

    async def _answer_or_come_back(self, request: Request) -> Answer:
        try:
            return await self._answer(request)
        except BusUnavailable as error:
            return come_back(request, 503, str(error))
        except NotConfigured as error:
            logger.error("no stream can be served: %s", error)
            return come_back(request, 503, "the server is not configured")
        except Exception:
            logger.exception("a stream could not begin")
            return come_back(request, 503, "the server has a problem")

    async def _answer(self, request: Request) -> Answer:
        """Everything that is decided before the first byte."""
        if request.method not in METHODS:
            return refused(
                request, 405, f"a stream can be read only, not {request.method}", {"Allow": ", ".join(METHODS)}
            )
        try:
            topic = Topic.of(request.path_params["project_id"], request.path_params.get("stage_name"))
        except InvalidTopic as error:
            return refused(request, 400, str(error))
        access = None
        if self._policy is None and not self._allow_public and is_public(request.scope):
            return refused(request, 403, "without an access policy only loopback is served: set STAGECAST_JWT_SECRET")
        if self._guarded:
            token = token_of(request)
            try:
                access = await self._authorized(topic, token)
            except Unauthenticated as error:
                return unauthenticated(request, error, had_token=token is not None)
            except AccessDenied as error:
                return refused(request, 403, str(error))
        if request.method == "HEAD":
            return Stream()
        try:
            return EventStream(await self._edge.hub().join(_view_request(request, topic, access)))
        except UnknownRun as error:
            return refused(request, 404, str(error))
        except Finished:
            return Response(status_code=204, headers={"Cache-Control": "no-store"})
        except Draining as error:
            return come_back(request, 503, str(error))
        except TooManyViewers as error:
            return come_back(request, 429, str(error))

    async def _authorized(self, topic: Topic, token: str | None) -> Access:
        if self._policy is None:
            raise Unauthenticated("this server has no access policy: set STAGECAST_JWT_SECRET")
        return await self._policy.authorize(AccessRequest(project=topic.project, stage=topic.stage, token=token))


def _view_request(request: Request, topic: Topic, access: Access | None) -> ViewRequest:
    query = request.query_params
    after, malformed = None, False
    if seen := request.headers.get("last-event-id") or query.get("last_event_id"):
        try:
            after = Position.parse(seen)
        except InvalidPosition:
            malformed = True
    return ViewRequest(
        topic=topic,
        delta=query.get("delta") == "1",
        after=after,
        malformed=malformed,
        latest=query.get("replay") == "latest",
        run=query.get("run") or None,
        principal=access.principal if access else None,
        expires_at=access.expires_at if access else None,
    )
