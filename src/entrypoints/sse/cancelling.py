"""Asking a run to stop, over HTTP. Knows nothing of who executes it: the bus tells its producers."""

import asyncio

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from stagecast.adapters.codec import dumps
from stagecast.domain.bus import MessageBus, Snapshot
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.topics import Topic

from .credentials import is_foreign
from .edge import Edge
from .gate import Denied, Gate
from .refusals import NOSNIFF, refused
from .settings import CorsSettings, EdgeSettings
from .sizes import TooLarge, bounded, too_large

METHODS = ("POST",)


class Cancelling:
    """`POST .../cancel`: 202 where the run was asked to stop, 200 where there was nothing to stop any more.

    `?run=` names the run; without it the stage's current one is meant. A run that is not the current one is left alone,
    so a cancel that comes late never stops the run that was begun after it. Asking again is harmless.
    """

    def __init__(self, edge: Edge, gate: Gate, cors: CorsSettings, settings: EdgeSettings) -> None:
        self._edge, self._gate, self._cors, self._patience = edge, gate, cors, settings.patience

    async def __call__(self, request: Request, topic: Topic) -> Response:
        self._refuse_foreign_pages(request)
        await self._gate.admit(request, topic, "cancel")
        await self._pass_over_body(request)
        bus = self._edge.hub().bus
        try:
            async with asyncio.timeout(self._patience):
                run = request.query_params.get("run") or await _current_run(bus, topic)
                asked = run is not None and await bus.cancel(topic, run)
        except TimeoutError as error:
            raise BusUnavailable("the bus does not answer") from error
        body = {"project_id": topic.project, "stage": topic.stage, "run": run, "cancelled": asked}
        headers = {"Cache-Control": "no-store", **NOSNIFF}
        return Response(dumps(body), 202 if asked else 200, headers, media_type="application/json")

    async def _pass_over_body(self, request: Request) -> None:
        """It says nothing, whatever its type: only who sends one that never ends is told."""
        try:
            async with asyncio.timeout(self._patience):
                await bounded(request)
        except TooLarge as error:
            raise Denied(too_large(request)) from error
        except (TimeoutError, ClientDisconnect) as error:
            raise Denied(refused(request, 408, "the body does not come", reason="slow")) from error

    def _refuse_foreign_pages(self, request: Request) -> None:
        """A page of another origin may not act with its visitor's cookie, or on a server of its visitor's machine.

        One that is allowed by name may, and one that shows a token of its own; `*` allows reading, not acting.
        """
        if "authorization" not in request.headers and is_foreign(request, self._cors):
            raise Denied(refused(request, 403, "pages of this origin may not cancel: see STAGECAST_CORS_ORIGINS"))


async def _current_run(bus: MessageBus, topic: Topic) -> str | None:
    async with bus.subscribe(topic) as subscription:
        delivery = await anext(subscription)
    assert isinstance(delivery, Snapshot)
    stage = delivery.stages.get(topic.one_stage)
    return stage.run if stage is not None and stage.ended is None else None
