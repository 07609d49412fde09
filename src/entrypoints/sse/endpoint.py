"""From a request to a stream, or to the answer that says why there is none; all before the first byte."""

import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from stagecast.domain.access import Access
from stagecast.domain.errors import (
    AccessUnavailable,
    BusUnavailable,
    InvalidPosition,
    InvalidTopic,
    NotConfigured,
)
from stagecast.domain.topics import Topic

from . import framing
from .cors import allowing, preflight
from .edge import Edge
from .gate import Denied, Gate
from .locality import counted_as
from .refusals import come_back, refused
from .response import EventStream, Stream
from .settings import CorsSettings
from .sizes import oversized
from .viewer import Draining, Finished, TooManyViewers, UnknownRun, ViewRequest

logger = logging.getLogger("stagecast.sse")

Answer: TypeAlias = Response | Stream | EventStream
Handler: TypeAlias = Callable[[Request, Topic], Awaitable[Answer]]
"""Answers a request about a topic. Raises Denied, and BusUnavailable where the client is to come back."""
TopicOf: TypeAlias = Callable[[Request], Awaitable[Topic]]
"""What a request is about. Raises InvalidTopic and Denied."""

READING = "GET", "HEAD"


@functools.lru_cache(maxsize=4096)
def _topic(project: str, stage: str | None) -> Topic:
    """One object for all who watch the same. Raises InvalidTopic."""
    return Topic.of(project, stage)


async def _in_path(request: Request) -> Topic:
    if b"%2f" in (request.scope.get("raw_path") or b"").lower():  # it would be a separator, and name another topic
        raise InvalidTopic("a path must not contain an encoded slash (%2F)")
    return _topic(request.path_params["project_id"], request.path_params.get("stage_name"))


class Endpoint:
    """One kind of route: what is the same for all of them, around a handler."""

    def __init__(
        self, handler: Handler, cors: CorsSettings, methods: Sequence[str] = READING, topic_of: TopicOf = _in_path
    ) -> None:
        self._handler, self._cors, self._methods, self._topic_of = handler, cors, methods, topic_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answered(Request(scope, receive))  # the request is not kept while the stream lives
        await answer(scope, receive, send)

    async def _answered(self, request: Request) -> Answer:
        if not self._cors.origins:
            return await self._answer_or_come_back(request)
        permission = preflight(self._cors, self._methods, request)
        if permission is not None:  # carries no credentials: no policy is asked
            return permission
        answer = await self._answer_or_come_back(request)
        answer.raw_headers += allowing(self._cors, request)
        return answer

    async def _answer_or_come_back(self, request: Request) -> Answer:
        try:
            return await self._answer(request)
        except (BusUnavailable, AccessUnavailable) as error:
            return come_back(request, 503, str(error))
        except NotConfigured as error:
            logger.error("no request can be served: %s", error)
            return come_back(request, 503, "the server is not configured")
        except Exception:
            logger.exception("a request could not be answered")
            return come_back(request, 503, "the server has a problem")

    async def _answer(self, request: Request) -> Answer:
        """Everything that is decided before the first byte."""
        if (refusal := oversized(request, request.app.state.edge.settings)) is not None:
            return refusal
        if request.method not in self._methods:
            allowed = ", ".join(self._methods)
            return refused(request, 405, f"{allowed} only, not {request.method}", {"Allow": allowed})
        try:
            return await self._handler(request, await self._topic_of(request))
        except InvalidTopic as error:
            return refused(request, 400, str(error))
        except Denied as error:
            return error.answer


class Streams:
    """A request becomes a stream, or the answer that says why not."""

    def __init__(self, edge: Edge, gate: Gate) -> None:
        self._edge, self._gate = edge, gate

    async def __call__(self, request: Request, topic: Topic) -> Answer:
        access = await self._gate.admit(request, topic)
        if request.method == "HEAD":
            return Stream()
        hub = self._edge.hub()
        try:
            return EventStream(await hub.join(_view_request(request, topic, access)), hub.settings.stall)
        except UnknownRun as error:
            return refused(request, 404, str(error))
        except Finished:
            return Response(status_code=204, headers={"Cache-Control": "no-store"})
        except Draining as error:
            return come_back(request, 503, str(error))
        except TooManyViewers as error:
            return come_back(request, 429, str(error), reason=error.limit)


async def closed(request: Request, _: Topic) -> Response:
    """The handler of the open routes where a policy protects the streams. It says so whoever asks for whatever."""
    return refused(
        request, 404, "this server has an access policy: streams are at the same path with stream/ at its end"
    )


def _view_request(request: Request, topic: Topic, access: Access | None) -> ViewRequest:
    query = request.query_params
    after, is_cleared, malformed = None, False, False
    if seen := request.headers.get("last-event-id") or query.get("last_event_id"):
        try:
            after, is_cleared = framing.seen(seen)
        except InvalidPosition:
            malformed = True
    return ViewRequest(
        topic=topic,
        delta=query.get("delta") == "1",
        after=after,
        is_cleared=is_cleared,
        malformed=malformed,
        latest=query.get("replay") == "latest",
        run=query.get("run") or None,
        principal=(access.principal or None) if access else None,
        address=counted_as(request.scope),
        expires_at=access.expires_at if access else None,
    )
