"""What a load balancer asks: is the process alive, and can it serve streams? Neither answer ends a stream."""

import asyncio
import logging

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stagecast.adapters.codec import dumps
from stagecast.domain.bus import MessageBus
from stagecast.domain.errors import BusUnavailable, NotConfigured
from stagecast.domain.topics import Topic

from .edge import Edge
from .refusals import NOSNIFF, problem

logger = logging.getLogger("stagecast.sse")

PATIENCE = 2.0
"""Seconds that the bus may take. Probes of load balancers and orchestrators commonly give up after a few."""
PROBE = Topic("stagecast-readiness")
"""A project that nobody publishes to; following it leaves nothing behind."""
_NO_STORE = {"Cache-Control": "no-store", **NOSNIFF}


def health_routes(edge: Edge) -> list[Route]:
    """`/healthz`, 200 as long as the process answers, and `/readyz`, 503 where new streams would not be served.

    Readiness follows the bus as a viewer does, which proves more than a ping: that news and what was before arrive.
    """

    async def healthz(_: Request) -> Response:
        return _ok()

    async def readyz(_: Request) -> Response:
        try:
            hub = edge.hub()
        except NotConfigured as error:
            logger.error("not ready: %s", error)
            return problem(503, "the server is not configured", _NO_STORE)
        if hub.draining:
            return problem(503, "the server is about to stop", _NO_STORE)
        try:
            async with asyncio.timeout(PATIENCE):
                await _follow(hub.bus)
        except NotConfigured as error:
            logger.error("not ready: %s", error)
            return problem(503, "the server is not configured", _NO_STORE)
        except (BusUnavailable, TimeoutError) as error:
            logger.warning("not ready: %s", str(error) or "the bus does not answer")
            return problem(503, "the bus does not answer", _NO_STORE)
        return _ok()

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


async def _follow(bus: MessageBus) -> None:
    async with bus.subscribe(PROBE) as subscription:
        await anext(subscription)


def _ok() -> Response:
    return Response(dumps({"status": "ok"}), 200, _NO_STORE, media_type="application/json")
