"""Settings from the environment. Knows names and defaults, and no part of the system that they configure."""

import os
from collections.abc import Mapping
from typing import Any

from attrs import fields

from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import NotConfigured

BUS_VARIABLES = ("STAGECAST_BUS", "REDIS_URL", "REDIS_PUBSUB_URL", "CELERY_BROKER_URL")
"""Where the bus's URL is looked for, in this order; CELERY_BROKER_URL counts only where it names a Redis."""


def bus_url(environ: Mapping[str, str] = os.environ) -> str:
    """The URL of the bus. Raises NotConfigured where none is named."""
    for name in BUS_VARIABLES:
        url = environ.get(name, "").strip()
        if url and (name != "CELERY_BROKER_URL" or url.startswith(("redis", "sentinel"))):
            return url
    raise NotConfigured(
        "no bus is configured: set STAGECAST_BUS, for example to redis://localhost:6379/0, "
        "or to memory:// for everything in one process"
    )


def bus_limits(environ: Mapping[str, str] = os.environ) -> BusLimits:
    """The limits of the bus, each field by its name: STAGECAST_LOG_LENGTH, STAGECAST_TIME_TO_LIVE and so on.

    Raises NotConfigured, naming the variable, for a value that is no number or out of range.
    """
    given: dict[str, Any] = {}
    for attribute in fields(BusLimits):
        name = f"STAGECAST_{attribute.name.upper()}"
        if text := environ.get(name, "").strip():
            try:
                given[attribute.name] = attribute.type(text) if attribute.type is not None else text
            except ValueError as error:
                raise NotConfigured(f"{name} is not a number: {text!r}") from error
    try:
        return BusLimits(**given)
    except ValueError as error:
        raise NotConfigured(f"a STAGECAST_ limit is out of range: {error.args[0]}") from error


def seed_channels(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What foreign readers of the seed's channels get, as keyword arguments of the Redis bus.

    STAGECAST_SEED_CHANNEL is another pattern of the channels' names, or `off`; STAGECAST_SEED_FULL_TEXT=1 puts
    `full_text` into the tokens there. Raises NotConfigured for a pattern without its two fields.
    """
    given: dict[str, Any] = {
        "seed_full_text": environ.get("STAGECAST_SEED_FULL_TEXT", "").strip() in {"1", "true", "on"}
    }
    pattern = environ.get("STAGECAST_SEED_CHANNEL", "").strip()
    if pattern == "off":
        given["seed_channel"] = None
    elif pattern:
        try:
            named = pattern.format(project_id="<p>", stage_name="<s>")
        except (KeyError, IndexError, ValueError):
            named = ""
        if "<p>" not in named or "<s>" not in named:
            raise NotConfigured("STAGECAST_SEED_CHANNEL must name {project_id} and {stage_name}, or be off")
        given["seed_channel"] = pattern
    return given
