"""The wire form of events: one line, `header TAB message`. Knows JSON and nothing of how lines travel.

The message is the seed's JSON, field for field; it is what foreign readers of the seed's channels get. The header
holds what is ours: the version `v`, `headers`, and the fields that a viewer's message does not have. JSON never
contains a raw TAB or line feed, so a transport can split and join lines without parsing them.

Decisions on reading, where cattrs would guess: types are not coerced (the text "7" is no number), unknown fields are
kept in `Event.extra`, an unknown type or a message that does not fit its type passes through as a CustomEvent.
"""

import json
import logging
import math
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, cast, get_origin

from attrs import fields
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from stagecast.domain.bus import EventCodec
from stagecast.domain.errors import InvalidEvent
from stagecast.domain.events import (
    JSON,
    CustomEvent,
    Event,
    FailureReason,
    ItemCompleted,
    Metadata,
    PipelineCompleted,
    PipelineFailed,
    ProgressReported,
    RunOpened,
    StageCompleted,
    StageFailed,
    StageRefreshed,
    StageUpdated,
    TokenEmitted,
)
from stagecast.domain.topics import Topic

try:
    import orjson as _orjson
except ImportError:  # the core works without; the extras bring it
    _orjson = None  # type: ignore[assignment]
orjson: ModuleType | None = _orjson

logger = logging.getLogger("stagecast.codec")

VERSION = 1

_TYPES: dict[str, type[Event]] = {
    cls.type: cls
    for cls in (
        TokenEmitted,
        StageUpdated,
        ProgressReported,
        ItemCompleted,
        StageCompleted,
        StageFailed,
        StageRefreshed,
        PipelineCompleted,
        PipelineFailed,
        RunOpened,
    )
}
_HEADER_FIELDS: dict[type[Event], tuple[str, ...]] = {
    TokenEmitted: ("offset", "snapshot"),
    RunOpened: ("run", "attempt", "fresh"),
}

_ON_THE_WIRE = {"project": "project_id"}


def dumps(value: object) -> bytes:
    """`value` as compact JSON. Raises InvalidEvent."""
    try:
        if orjson is not None:
            return cast(bytes, orjson.dumps(value))
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidEvent(f"not JSON: {error}") from error


def loads(data: bytes | str) -> Any:
    """The value of JSON text, whose numbers are finite. Raises ValueError."""
    if orjson is not None:
        return orjson.loads(data)
    try:
        return json.loads(data, parse_float=_finite, parse_constant=_finite)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _finite(text: str) -> float:
    """What browsers can read: their JSON has neither NaN nor infinities."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no finite number")
    return number


def _exactly(*types: type) -> Callable[[object, object], object]:
    def structure(value: object, _: object) -> object:
        if type(value) not in types:
            raise TypeError(f"{value!r} is not a {types[0].__name__}")
        return value

    return structure


def _is_mapping(hint: object) -> bool:
    return get_origin(hint) is Mapping


def _mapping(value: object, _: object) -> Metadata:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} is not an object")
    return cast(Metadata, value)


def _reason(value: object, _: object) -> FailureReason:
    """One that this version does not know is kept: an `error` ends its run whatever its reason."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a reason")
    return cast(FailureReason, value)


def _converter() -> Converter:
    converter = Converter(detailed_validation=False)
    converter.register_structure_hook(str, _exactly(str))
    converter.register_structure_hook(int, _exactly(int))
    converter.register_structure_hook(bool, _exactly(bool))
    converter.register_structure_hook(float, _exactly(float, int))
    converter.register_structure_hook_func(_is_mapping, _mapping)
    converter.register_structure_hook_func(lambda hint: hint == FailureReason, _reason)
    converter.register_unstructure_hook_func(_is_mapping, lambda value: value)
    for cls in _TYPES.values():
        reading = {name: override(rename=wire) for name, wire in _ON_THE_WIRE.items()}
        converter.register_structure_hook(
            cls,
            make_dict_structure_fn(
                cls, converter, extra=override(omit=True), headers=override(omit=True), **cast(Any, reading)
            ),
        )
        # Optional fields are left out where they have their default, as the seed does; its order is kept.
        in_header = _HEADER_FIELDS.get(cls, ())
        writing = {
            a.name: override(
                omit=a.name in in_header or a.name in {"extra", "headers"},
                rename=_ON_THE_WIRE.get(a.name),
                omit_if_default=a.name in _OPTIONAL.get(cls, ()),
            )
            for a in fields(cls)
        }
        converter.register_unstructure_hook(cls, make_dict_unstructure_fn(cls, converter, **cast(Any, writing)))
    return converter


_OPTIONAL: dict[type[Event], tuple[str, ...]] = {
    StageUpdated: ("progress", "message", "retry_count"),
    ProgressReported: ("item_name",),
    ItemCompleted: ("metadata",),
    StageCompleted: ("metadata",),
    StageFailed: ("reason",),
    StageRefreshed: ("metadata",),
    PipelineCompleted: ("metadata",),
    PipelineFailed: ("metadata",),
}
_CONVERTER = _converter()
_WIRE_FIELDS: dict[type[Event], frozenset[str]] = {
    cls: frozenset(_ON_THE_WIRE.get(str(a.name), str(a.name)) for a in fields(cls)) - {"extra", "headers"} | {"type"}
    for cls in _TYPES.values()
}


def message_of(event: Event) -> dict[str, JSON]:
    """The seed's message for `event`, without `id` and without the token's `full_text`."""
    if isinstance(event, CustomEvent):
        return dict(event.message)
    if type(event) is TokenEmitted and not event.extra:  # as below, for the one event that comes by the thousand
        return {
            "type": "token",
            "content": event.content,
            "stage": event.stage,
            "project_id": event.project,
            "timestamp": event.timestamp,
        }
    body = _CONVERTER.unstructure(event)
    common = {name: body.pop(name) for name in ("stage", "project_id", "timestamp")}
    if isinstance(event, StageCompleted) and event.full_text is None:
        del body["full_text"]
    return {"type": event.type, **body, **event.extra, **common}


class JsonCodec(EventCodec):
    """The codec of every transport (`stagecast.domain.bus.EventCodec`)."""

    def encode(self, event: Event) -> bytes:
        """The event's line. Raises InvalidEvent."""
        if type(event) is TokenEmitted and not event.headers and not event.snapshot:
            # As below, for the one event that comes by the thousand.
            return b'{"v":%d,"offset":%d}\t%b' % (VERSION, event.offset, dumps(message_of(event)))
        header: dict[str, object] = {"v": VERSION}
        for name in _HEADER_FIELDS.get(type(event), ()):
            if (value := getattr(event, name)) is not False:
                header[name] = value
        if event.headers:
            header["headers"] = dict(event.headers)
        if isinstance(event, CustomEvent):
            header["topic"] = [event.project, event.stage, event.timestamp]
        return dumps(header) + b"\t" + dumps(message_of(event))

    def decode(self, data: bytes) -> Event:
        """The event of a line; what does not fit a known type becomes a CustomEvent."""
        head, _, body = data.partition(b"\t")
        try:
            header, message = loads(head), loads(body)
            if not isinstance(header, dict) or not isinstance(message, dict):
                raise TypeError("not an object")
        except (ValueError, TypeError):
            logger.error("a line of the log is not stagecast's and passes through as text")
            text = data.decode(errors="replace")
            return CustomEvent(project="", stage="", timestamp=0.0, message={"type": "undecodable", "text": text})
        given = header.get("headers")
        headers = {str(key): str(value) for key, value in given.items()} if isinstance(given, dict) else {}
        match header.get("topic"):
            case [str(project), str(stage), int() | float() as timestamp]:
                return CustomEvent(project=project, stage=stage, timestamp=timestamp, message=message, headers=headers)
        return _structure(header, message, headers)

    def parse(self, topic: Topic, message: Metadata, timestamp: float) -> Event:
        """The event that a caller's own message dict stands for: the seed's raw `publish(message)`.

        A message of a known type whose fields fit becomes that event; anything else stays as it is, with a
        `timestamp` added.
        """
        message = {key: value for key, value in message.items() if key != "id"}  # ours: the position
        common = {"stage": topic.one_stage, "project_id": topic.project}
        tag = message.get("type")
        if isinstance(tag, str) and tag != RunOpened.type and tag in _TYPES:
            event = _structure({"offset": 0}, {"timestamp": timestamp, **message, **common}, {})
            if not isinstance(event, CustomEvent):
                return event
        return CustomEvent(
            project=topic.project,
            stage=topic.one_stage,
            timestamp=timestamp,
            message={**message, "timestamp": message.get("timestamp", timestamp)},
        )


def _structure(header: Mapping[str, Any], message: dict[str, Any], headers: dict[str, str]) -> Event:
    cls = _TYPES.get(str(message.get("type")))
    if cls is not None:
        values = {"full_text": None, **message} if cls is StageCompleted else dict(message)
        for name in _HEADER_FIELDS.get(cls, ()):
            if name in header:
                values[name] = header[name]
            elif cls is RunOpened and name == "fresh":
                values[name] = False
        unknown = {key: value for key, value in message.items() if key not in _WIRE_FIELDS[cls]}
        try:
            event = _CONVERTER.structure(values, cls)
        except (TypeError, ValueError, KeyError, AttributeError):
            logger.warning("a %s message lacks or misuses a field and passes through as it is", cls.type)
        else:
            if unknown or headers:
                object.__setattr__(event, "extra", unknown)
                object.__setattr__(event, "headers", headers)
            return event
    return CustomEvent(
        project=str(message.get("project_id", "")),
        stage=str(message.get("stage", "")),
        timestamp=message["timestamp"] if isinstance(message.get("timestamp"), float | int) else 0.0,
        message=message,
        headers=headers,
    )
