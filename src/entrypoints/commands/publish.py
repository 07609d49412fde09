"""`stagecast publish`: sends one event and waits for the bus to acknowledge it."""

import argparse
import inspect
import json
import sys
from collections.abc import Sequence

from stagecast.domain.errors import InvalidEvent, InvalidTopic, NotConfigured, StagecastError
from stagecast.domain.events import JSON
from stagecast.entrypoints import configuration, wiring
from stagecast.entrypoints.publishers import RedisStreamPublisher

FAILED = 1
"""The exit code for an event that was refused or not acknowledged in time."""

_KNOWN = frozenset(
    {"token", "stage_update", "progress", "item_completed", "done", "error", "stage_completed"}
    | {"pipeline_done", "pipeline_error"}
)


def main(options: argparse.Namespace) -> int:
    """Send it; the exit code. `options`: project, stage, type, values, bus, timeout."""
    fields = fields_of(options.values)
    url = options.bus or configuration.bus_url()
    if not wiring.shared_bus(url).capabilities.processes:
        raise NotConfigured(f"{url} reaches this process only: nobody else would see the event")
    try:
        publisher = RedisStreamPublisher(options.project, options.stage, bus=url, strict=True, timeout=options.timeout)
    except InvalidTopic as error:
        raise NotConfigured(str(error)) from error
    try:
        _send(publisher, options.type, fields)
        publisher.flush(options.timeout)
    except StagecastError as error:
        publisher.leave(0)  # what the bus has not taken by now is dropped: the caller is told that it failed
        return _fail(error)
    publisher.close()
    return 0


def _send(publisher: RedisStreamPublisher, kind: str, fields: dict[str, JSON]) -> None:
    """By the method of its type where stagecast knows it, so that a wrong field is told; else as a raw message."""
    if kind not in _KNOWN:
        publisher.publish({"type": kind, **fields})
        return
    method = getattr(publisher, f"publish_{kind}")
    try:
        bound = inspect.signature(method).bind(**fields)
    except TypeError as error:
        takes = ", ".join(inspect.signature(method).parameters)
        raise InvalidEvent(f"{kind}: {error}; its fields are {takes}") from error
    method(*bound.args, **bound.kwargs)


def fields_of(pairs: Sequence[str]) -> dict[str, JSON]:
    """The fields that `key=value` texts give. Raises NotConfigured for a text that is none."""
    fields: dict[str, JSON] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise NotConfigured(f"a field is written key=value, not {pair!r}")
        if name == "type":
            raise NotConfigured("the type stands before the fields, not among them")
        fields[name] = _value(text)
    return fields


def _value(text: str) -> JSON:
    try:
        value: JSON = json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text
    return value


def _no_constant(name: str) -> JSON:
    raise ValueError(f"{name} is no JSON")


def _fail(error: StagecastError) -> int:
    if isinstance(error, InvalidEvent):
        advice = """ (values are read as JSON where they parse: a text of digits is written content='"42"')"""
    else:
        advice = " (`stagecast doctor` examines the bus)"
    print(f"stagecast: error: {error}{advice}", file=sys.stderr)
    return FAILED
