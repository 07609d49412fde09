"""How large a request may be. What a server bounds itself, with a status of its own choice, never comes here."""

from starlette.requests import Request
from starlette.responses import Response

from .refusals import refused
from .settings import EdgeSettings

BODY_BYTES = 4096
"""Of a request's body: none needs more than a topic's name."""


class TooLarge(Exception):
    """The body of a request has more than `BODY_BYTES`."""


def oversized(request: Request, settings: EdgeSettings) -> Response | None:
    """The refusal of a request that is too large, as far as its head tells; None for all others."""
    scope = request.scope
    length = len(scope.get("raw_path") or scope["path"].encode()) + 1 + len(scope.get("query_string") or b"")
    if length > settings.url_bytes:
        return refused(request, 414, f"the path and its query are longer than {settings.url_bytes} bytes", reason="url")
    length = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    if length > settings.header_bytes:
        return refused(request, 431, f"the headers have more than {settings.header_bytes} bytes", reason="headers")
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or len(announced) > 15 or int(announced) > BODY_BYTES:
        return too_large(request)
    return None


async def bounded(request: Request) -> bytes:
    """The body. Raises TooLarge as soon as it is."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES:
            raise TooLarge
    return bytes(body)


def too_large(request: Request) -> Response:
    """The refusal of a body."""
    return refused(request, 413, f"the body is larger than {BODY_BYTES} bytes", reason="body")
