"""The SSE edge as a Starlette application: its routes, its lifespan, and what it is made of."""

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from stagecast.domain.access import AccessPolicy, UsedTickets
from stagecast.domain.bus import MessageBus
from stagecast.entrypoints import configuration
from stagecast.entrypoints.configuration import AccessSettings

from . import cancelling, tickets
from .access import configured_policy, ticket_secrets
from .cancelling import Cancelling
from .edge import Edge
from .endpoint import Endpoint, Streams, closed
from .gate import Gate
from .health import health_routes
from .openapi import openapi_route
from .paths import CANCEL, GUARDED, PROJECT, STAGE, TICKETS
from .refusals import on_http_exception
from .settings import CorsSettings, EdgeSettings
from .tickets import TicketOffice, Tickets


def create_app(
    bus: MessageBus | str | None = None,
    policy: AccessPolicy | None = None,
    *,
    settings: EdgeSettings | None = None,
    cors: CorsSettings | None = None,
    access: AccessSettings | None = None,
    open_routes: bool | None = None,
    allow_public: bool | None = None,
    used_tickets: UsedTickets | None = None,
    routes: Sequence[BaseRoute] = (),
) -> Starlette:
    """The application; nothing is opened before its lifespan starts or, where nobody runs it, before a request comes.

    What is not given is taken from the configuration (`stagecast.entrypoints.configuration`); `bus` is what
    `stagecast.entrypoints.sse.edge.Edge` takes.
    With a policy the streams are under `stream/`, and the seed's routes without authorisation answer 404, unless
    `open_routes` leaves them open to everybody; without one only these are served and their twins answer 401.
    Who shows a bearer token gets a ticket for one stream by POST to `TICKETS`; `used_tickets` remembers which were used
    where the bus is no Redis.
    Without a policy, connections to another address than loopback, what a proxy hands on for another machine, and what
    asks for another Host than localhost get 403, whatever server runs the application, unless `allow_public` says that
    everybody may see everything.
    Pages of the origins that `cors` names may read the streams.
    A run is cancelled by POST to `CANCEL`; a policy is always asked about that.
    `/healthz` and `/readyz` tell load balancers; `routes` are served too. `app.state.edge` is the Edge: whoever mounts
    the application, whose lifespan then nobody runs, may close that. Raises NotConfigured for a secret or origins that
    cannot be used.
    """
    configured = configuration.current()
    settings = settings or configured.sse
    edge = Edge(bus, settings, used_tickets)
    policy = policy or configured_policy()
    cors = cors or configured.cors
    access = access or configured.access
    if open_routes is None:
        open_routes = access.open_routes
    public = configured.allow_public if allow_public is None else allow_public
    redeemed = Tickets(edge, ticket_secrets(policy, access), access.ticket_seconds, settings.patience)
    gate = partial(Gate, policy, cors, allow_public=public, patience=settings.patience, hosts=settings.hosts)
    plain = Endpoint(Streams(edge, gate(guarded=False)) if open_routes or policy is None else closed, cors)
    guarded = Endpoint(Streams(edge, gate(guarded=True, tickets=redeemed)), cors)
    cancel = Endpoint(Cancelling(edge, gate(guarded=policy is not None), cors, settings), cors, cancelling.METHODS)
    office = TicketOffice(gate(guarded=True), redeemed, settings.patience)
    give = Endpoint(office, cors, tickets.METHODS, office.topic_of)

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
            Route(PROJECT + GUARDED, guarded),
            Route(STAGE + GUARDED, guarded),
            # Without the last slash too: a redirect would repeat a ticket, under the host that the request named.
            *(Route(path.rstrip("/"), plain, include_in_schema=False) for path in (PROJECT, STAGE)),
            *(Route((path + GUARDED).rstrip("/"), guarded, include_in_schema=False) for path in (PROJECT, STAGE)),
        ],
        [Route(CANCEL, cancel), Route(TICKETS, give), *health_routes(edge), openapi_route(), *routes],
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
        self.router.redirect_slashes = False
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
