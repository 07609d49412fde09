"""The SSE edge as a Starlette application: its routes, its lifespan, and what it is made of."""

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from stagecast.domain.access import AccessPolicy
from stagecast.domain.bus import MessageBus
from stagecast.entrypoints import configuration

from . import cancelling
from .access import configured_policy
from .cancelling import Cancelling
from .edge import Edge
from .endpoint import Endpoint, Streams
from .gate import Gate
from .health import health_routes
from .refusals import on_http_exception
from .settings import CorsSettings, EdgeSettings

PROJECT = "/api/v1/sse/projects/{project_id}/"
STAGE = "/api/v1/sse/projects/{project_id}/stages/{stage_name}/"
CANCEL = "/api/v1/projects/{project_id}/stages/{stage_name}/cancel"


def create_app(
    bus: MessageBus | str | None = None,
    policy: AccessPolicy | None = None,
    *,
    settings: EdgeSettings | None = None,
    cors: CorsSettings | None = None,
    open_routes: bool = False,
    allow_public: bool | None = None,
    routes: Sequence[BaseRoute] = (),
) -> Starlette:
    """The application; nothing is opened before its lifespan starts or, where nobody runs it, before a request comes.

    What is not given is taken from the configuration (`stagecast.entrypoints.configuration`); `bus` is what
    `stagecast.entrypoints.sse.edge.Edge` takes.
    With a policy all routes ask it, so that nothing leaks past it, unless `open_routes` leaves the seed's routes
    without authorisation open; without one only these are served and their twins under `stream/` answer 401.
    Without a policy, connections to another address than loopback get 403, whatever server runs the application, unless
    `allow_public` says that everybody may see everything.
    Pages of the origins that `cors` names may read the streams.
    A run is cancelled by POST to `CANCEL`; with a policy that is always asked.
    `/healthz` and `/readyz` tell load balancers; `routes` are served too. `app.state.edge` is the Edge: whoever mounts
    the application, whose lifespan then nobody runs, may close that. Raises NotConfigured for a secret or origins that
    cannot be used.
    """
    configured = configuration.current()
    settings = settings or configured.sse
    edge = Edge(bus, settings)
    policy = policy or configured_policy()
    cors = cors or configured.cors
    public = configured.allow_public if allow_public is None else allow_public
    gate = Gate(policy, guarded=policy is not None, allow_public=public)
    open_gate = Gate(policy, guarded=False, allow_public=public)
    strict_gate = Gate(policy, guarded=True, allow_public=public)
    plain = Endpoint(Streams(edge, open_gate if open_routes else gate), cors)
    guarded = Endpoint(Streams(edge, strict_gate), cors)
    cancel = Endpoint(Cancelling(edge, gate, cors, settings), cors, cancelling.METHODS)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        edge.hub()
        try:
            yield
        finally:
            await edge.aclose()

    app = EdgeApp(
        [
            Route(PROJECT, plain),
            Route(STAGE, plain),
            Route(PROJECT + "stream/", guarded),
            Route(STAGE + "stream/", guarded),
        ],
        [Route(CANCEL, cancel), *health_routes(edge), *routes],
        lifespan,
    )
    app.state.edge = edge
    return app


class EdgeApp(Starlette):
    """Starlette's application, but for one thing: streams don't pass its error middleware.

    Each frame to each client would, at a seventh of all the time; and `Endpoint` lets no error through before
    the first byte. Where middleware is added, everything passes everything.
    """

    def __init__(self, streams: Sequence[Route], others: Sequence[BaseRoute], lifespan: Lifespan["EdgeApp"]) -> None:
        super().__init__(
            routes=[*streams, *others], exception_handlers={HTTPException: on_http_exception}, lifespan=lifespan
        )
        self._streams = streams

    def build_middleware_stack(self) -> ASGIApp:
        """The application behind `self`."""
        full = super().build_middleware_stack()
        if self.user_middleware:
            return full

        def app(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            # Each coroutine that only waits for another takes half a kilobyte of every stream.
            if scope["type"] == "http":
                for route in self._streams:
                    match, child_scope = route.matches(scope)
                    if match is not Match.NONE:
                        scope.update(child_scope)
                        return route.app(scope, receive, send)
            return full(scope, receive, send)

        return app
