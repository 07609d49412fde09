"""The bodies of the HTTP surface as JSON schemas: the messages of a stream among them. Knows no path."""

from typing import Any, TypeAlias, get_args

from stagecast.domain.events import FAILURE_REASONS
from stagecast.domain.following import ResetCause

Schema: TypeAlias = dict[str, Any]


def reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _nullable(kind: str) -> Schema:
    return {"type": [kind, "null"]}


def _object(required: dict[str, Schema], optional: dict[str, Schema] | None = None, **more: Any) -> Schema:
    """Other fields may be there, unless `more` says no: who reads ignores what he does not know."""
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}, **more}


_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_INTEGER: Schema = {"type": "integer"}
_OBJECT: Schema = {"type": "object"}
_PERCENT: Schema = {"type": ["number", "null"], "description": "Percent, 0 to 100"}
_METADATA = {"metadata": {"type": ["object", "null"]}}


def _event(kind: str, required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """A message of a stage, as its publisher sent it."""
    common = {"stage": _TEXT, "project_id": _TEXT, "timestamp": {**_NUMBER, "description": "Seconds since the epoch"}}
    own = {"type": {"const": kind}, **required, **common}
    return _object(own, {**(optional or {}), "id": reference("Position")})


def _of_the_server(kind: str, required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """A message of the server's own."""
    return _object({"type": {"const": kind}, "project_id": _TEXT, **required}, optional)


_STATUS = {
    **_TEXT,
    "description": "queued, processing, retrying, completed, failed, skipped, or another of the task's own",
}
_KINDS: dict[str, Schema] = {
    "Connected": _of_the_server("connected", {"stage": _nullable("string"), "message": _TEXT}),
    "Token": _event(
        "token",
        {"content": _TEXT},
        {
            "full_text": {**_TEXT, "description": "The stage's text so far; not with `delta=1`"},
            "offset": {**_INTEGER, "description": "With `delta=1`: UTF-16 units before `content`"},
            "snapshot": {"const": True, "description": "`content` is the whole text so far"},
        },
    ),
    "StageUpdate": _event(
        "stage_update",
        {"status": _STATUS},
        {"progress": _PERCENT, "message": _nullable("string"), "retry_count": _nullable("integer")},
    ),
    "Progress": _event(
        "progress",
        {"current": _nullable("number"), "total": _nullable("number"), "progress": _PERCENT},
        {"item_name": _nullable("string")},
    ),
    "ItemCompleted": _event("item_completed", {"item_type": _TEXT, "sequence_number": _INTEGER}, _METADATA),
    "Done": _event("done", {}, {"full_text": _TEXT, **_METADATA}),
    "Error": _event(
        "error",
        {"error": _TEXT, "retry_count": _INTEGER},
        {"reason": {**_TEXT, "examples": [one for one in FAILURE_REASONS if one != "exception"]}},
    ),
    "StageCompleted": _event("stage_completed", {}, _METADATA),
    "PipelineDone": _event("pipeline_done", {}, _METADATA),
    "PipelineError": _event("pipeline_error", {"error": _TEXT}, _METADATA),
    "Reset": _of_the_server(
        "reset",
        {"stage": _nullable("string"), "reason": {"enum": list(get_args(ResetCause))}},
        {"run": _TEXT, "attempt": _INTEGER, "id": reference("Position")},
    ),
    "AccessExpired": _of_the_server("access_expired", {"message": _TEXT}),
    "StreamEnd": _of_the_server("stream_end", {"message": _TEXT}),
}
_OTHER: Schema = {
    **_object({}, {"type": {"not": {"enum": [one["properties"]["type"]["const"] for one in _KINDS.values()]}}}),
    "description": "A message of the publisher's own (`publish`), as it was given",
}

SCHEMAS: dict[str, Schema] = {
    "Position": {**_TEXT, "description": "Opaque: where a message stands in its project's log", "examples": ["1-0"]},
    **_KINDS,
    "Other": _OTHER,
    "Message": {"oneOf": [reference(name) for name in (*_KINDS, "Other")]},
    "Event": _object(
        {"data": {**_TEXT, "contentMediaType": "application/json", "contentSchema": reference("Message")}},
        {"id": reference("Position"), "event": {"const": "message", "description": "As good as none: unnamed"}},
        additionalProperties=False,
    ),
    "Problem": _object(
        {"type": {"const": "about:blank"}, "title": _TEXT, "status": _INTEGER, "detail": _TEXT},
        description="RFC 9457",
    ),
    "Cancelled": _object(
        {"project_id": _TEXT, "stage": _TEXT, "run": _nullable("string"), "cancelled": {"type": "boolean"}}
    ),
    "TicketRequest": _object(
        {"project_id": {"anyOf": [reference("Id"), _INTEGER]}},
        {"stage_name": {"anyOf": [reference("Id"), _INTEGER, {"type": "null"}]}},
    ),
    "Ticket": _object({"ticket": _TEXT, "expires_in": _INTEGER, "url": _TEXT}),
    "Health": _object({"status": {"const": "ok"}}),
}
