"""The OpenAPI document of the HTTP surface, written by hand: OpenAPI 3.1 has no words for a stream of events.

It is the same whatever is configured: it tells how requests are made, and nothing of who may make them here.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import stagecast
from stagecast.adapters.codec import dumps

from .credentials import COOKIE, TICKET
from .openapi_messages import SCHEMAS, reference
from .paths import CANCEL, GUARDED, PROJECT, STAGE, TICKETS
from .refusals import NOSNIFF

PATH = "/openapi.json"
Node: TypeAlias = dict[str, Any]

ID: Node = {
    "type": "string",
    "minLength": 1,
    "maxLength": 128,
    "pattern": (
        r"^[^:/*?\[\]{}\\\s\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufffd]+$"
    ),
    "not": {"enum": [".", ".."]},
    "description": "Without separators, globs, white space and control characters. An int or a UUID is its text.",
}

_REFUSALS = {
    400: "Malformed: an id, or a token in the query, where none is taken from",
    401: "Credentials are missing, forged or over",
    403: "These credentials, this page's origin or this machine may not",
    404: "No such run; or, with an access policy, the routes without `stream/`",
    405: "Another method than those in `Allow`",
    408: "The request does not come in time",
    413: "The body is too large",
    414: "The path and its query are too long",
    429: "A limit of connections is reached. An EventSource gets an empty stream with a time to come back instead",
    431: "The headers are too large",
    501: "This server gives no tickets",
    503: "Not now: the bus is away, the server stops. An EventSource gets an empty stream with a time to come back",
}
_HEADERS: dict[int, Node] = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"type": "string", "pattern": "^Bearer"}}},
    405: {"Allow": {"required": True, "schema": {"type": "string"}}},
    429: {"Retry-After": {"required": True, "schema": {"type": "string", "pattern": "^[0-9]+$"}}},
}
_ALWAYS = 400, 403, 405, 413, 414, 431, 503
"""What any request may be answered with."""
_GUARDED: list[Node] = [{"bearer": []}, {"ticket": []}, {"cookie": []}]


def _refused(*statuses: int) -> Node:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted({*_ALWAYS, *statuses})}


def _parameter(place: str, name: str, schema: Node, description: str = "", **more: Any) -> Node:
    return {
        "name": name,
        "in": place,
        "schema": schema,
        **({"description": description} if description else {}),
        **more,
    }


def _json(schema: Node, media_type: str = "application/json") -> Node:
    return {media_type: {"schema": schema}}


_PROJECT = _parameter("path", "project_id", reference("Id"), required=True)
_STAGE = _parameter("path", "stage_name", reference("Id"), required=True)
_READING = [
    _parameter(
        "query",
        "delta",
        {"type": "string", "enum": ["1"]},
        "Tokens carry `offset` and no `full_text`; whole texts are marked `snapshot`",
    ),
    _parameter(
        "query", "replay", {"type": "string", "enum": ["latest"]}, "Show the newest run even if it has ended long ago"
    ),
    _parameter("query", "run", {"type": "string", "maxLength": 128}, "Show this run alone; 404 where it is unknown"),
    _parameter("query", "last_event_id", reference("Position"), "As the header, for a first connection"),
    _parameter("header", "Last-Event-ID", reference("Position"), "Go on after it. Anything else counts as none"),
]
_STREAM_TEXT = """An event stream (HTML standard, section 9.2); the schema is each event's, since OpenAPI 3.1 knows
no streams. Each event is unnamed; its `data` is one line of JSON, a `Message`. Its `id` is the position to come back
with. A block that has only an `id` moves the position. Comments (`: heartbeat`) keep the connection open. `connected`
comes first; after `stream_end` nothing comes, and the client closes. A stream that ends without it is to be followed
again: an EventSource does so by itself."""


def _stream(summary: str, *, stage: bool, guarded: bool) -> Node:
    names = [_PROJECT, *([_STAGE] if stage else [])]
    refusals = _refused(404, 429, *([401] if guarded else []))
    operation = f"{'stage' if stage else 'project'}Stream{'Guarded' if guarded else ''}"
    security: Node = {"security": _GUARDED if guarded else []}
    return {
        "parameters": names,
        "get": {
            "operationId": operation,
            "tags": ["streams"],
            "summary": summary,
            "parameters": _READING,
            **security,
            "responses": {
                "200": {"description": _STREAM_TEXT, "content": _json(reference("Event"), "text/event-stream")},
                "204": {"description": "The run has ended, and the client has seen its end: do not come back"},
                **refusals,
            },
        },
        "head": {
            "operationId": f"{operation}Head",
            "tags": ["streams"],
            "summary": "Whether the stream would be given",
            **security,
            "responses": {
                status: {"description": "As for GET"}
                for status in ("200", *(one for one in refusals if one not in {"429"}))
            },
        },
    }


def document() -> Node:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stagecast",
            "version": stagecast.__version__,
            "summary": "Live, lossless progress of long jobs",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": "streams"}, {"name": "runs"}, {"name": "access"}, {"name": "health"}],
        "paths": {
            STAGE: _stream("Follow a stage", stage=True, guarded=False),
            PROJECT: _stream("Follow all stages of a project", stage=False, guarded=False),
            STAGE + GUARDED: _stream("Follow a stage, with access", stage=True, guarded=True),
            PROJECT + GUARDED: _stream("Follow all stages of a project, with access", stage=False, guarded=True),
            CANCEL: {"parameters": [_PROJECT, _STAGE], "post": _cancel()},
            TICKETS: {"post": _tickets()},
            "/healthz": {"get": _health("live", "Whether the process answers")},
            "/readyz": {"get": _health("ready", "Whether new streams would be served", 503)},
            PATH: {
                "get": {
                    "operationId": "openapi",
                    "tags": ["health"],
                    "summary": "This document",
                    "security": [],
                    "responses": {"200": {"description": "OpenAPI 3.1", "content": _json({"type": "object"})}},
                }
            },
        },
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "ticket": {"type": "apiKey", "in": "query", "name": TICKET, "description": "Once, within its seconds"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            },
            "responses": {str(status): _problem(status) for status in _REFUSALS},
            "schemas": {"Id": ID, **SCHEMAS},
        },
    }


def _problem(status: int) -> Node:
    headers = {"headers": _HEADERS[status]} if status in _HEADERS else {}
    content = _json(reference("Problem"), "application/problem+json")
    return {"description": _REFUSALS[status], **headers, "content": content}


def _cancel() -> Node:
    described = "the run was asked to stop; its viewers get `error`, reason `cancelled`, when it does"
    return {
        "operationId": "cancel",
        "tags": ["runs"],
        "summary": "Ask a run to stop",
        "parameters": [
            _parameter("query", "run", {"type": "string", "maxLength": 128}, "That run or none; else the current one")
        ],
        "security": [{}, {"bearer": []}, {"cookie": []}],
        "responses": {
            "200": {"description": "There was nothing to stop any more", "content": _json(reference("Cancelled"))},
            "202": {"description": described, "content": _json(reference("Cancelled"))},
            **_refused(401),
        },
    }


def _tickets() -> Node:
    return {
        "operationId": "ticket",
        "tags": ["access"],
        "summary": "Get a ticket for one stream, for an EventSource, which cannot send headers",
        "security": [{"bearer": []}],
        "requestBody": {"required": True, "content": _json(reference("TicketRequest"))},
        "responses": {
            "201": {"description": "A ticket", "content": _json(reference("Ticket"))},
            **_refused(401, 408, 501),
        },
    }


def _health(name: str, summary: str, *statuses: int) -> Node:
    return {
        "operationId": name,
        "tags": ["health"],
        "summary": summary,
        "security": [],
        "responses": {
            "200": {"description": "Yes", "content": _json(reference("Health"))},
            **{str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses},
        },
    }


def openapi_route() -> Route:
    """Serves the document; its paths begin where the application is mounted."""
    made = document()

    async def answer(request: Request) -> Response:
        body: Mapping[str, Any] = {**made, "servers": [{"url": request.scope.get("root_path") or "/"}]}
        return Response(dumps(body), 200, {"Cache-Control": "no-cache", **NOSNIFF}, media_type="application/json")

    return Route(PATH, answer)
