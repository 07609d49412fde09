"""Applications that a server program of the tests serves by name."""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from stagecast.entrypoints.sse import create_app


class Passing(BaseHTTPMiddleware):
    """Middleware as people write it."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


async def _tell(request: Request) -> Response:
    return JSONResponse({"server": request.scope.get("server")})


passing = Starlette(routes=[Mount("/", create_app())], middleware=[Middleware(Passing)])
"""The streams, mounted in an application with middleware: nobody runs the lifespan of what is mounted."""
where = Starlette(routes=[Route("/", _tell)])
"""Tells at which address the server says that the connection came in."""
