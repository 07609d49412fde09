"""What an operator can set of the Redis transport. Needs no Redis package; ADR 0015 has the reason of each default."""

import re
from string import Formatter

from attrs import field, frozen, validators

SEED_CHANNEL = "ai_story:project:{project_id}:stage:{stage_name}"
NO_CHANNEL = "off"
_FIELDS = [("project_id", "", None), ("stage_name", "", None)]
"""Each once, as it is: a format or an attribute could make two ids one."""

_SECONDS = validators.and_(validators.gt(0.0), validators.lt(1e9))
_SEPARATOR = re.compile(r"[:/*?\[\]{}\\\s]")
"""What no id contains (`stagecast.domain.topics`)."""


def _names_project_and_stage(_: object, __: object, pattern: str) -> None:
    """With a separator between the two, or `a-b` and `c` would share the channel of `a` and `b-c`."""
    if pattern == NO_CHANNEL:
        return
    try:
        named = [part[1:] for part in Formatter().parse(pattern) if part[1] is not None]
    except ValueError:
        named = []
    if named not in (_FIELDS, _FIELDS[::-1]):
        raise ValueError(f"the seed's channel must name {{project_id}} and {{stage_name}}, or be off: {pattern!r}")
    _, between, *_ = pattern.format(project_id="\0", stage_name="\0").split("\0")
    if not _SEPARATOR.search(between):
        raise ValueError(f"between {{project_id}} and {{stage_name}} must be what no id has, a colon say: {pattern!r}")


@frozen(kw_only=True)
class ConnectionSettings:
    """Of each process and event loop. Raises ValueError for a value out of range. Options in the URL's query win."""

    max_connections: int = field(default=2, validator=validators.ge(1))
    """Of the pool that all commands share. Who needs one more waits for `command_timeout`. The feed has one besides."""
    connect_timeout: float = field(default=5.0, validator=_SECONDS)
    """Seconds to wait for a connection."""
    command_timeout: float = field(default=5.0, validator=_SECONDS)
    """Seconds to wait for the answer to a command, not for the next message of a subscription."""


@frozen(kw_only=True)
class SeedChannels:
    """What foreign readers get, who subscribe to the channels of the seed's module. Raises ValueError."""

    channel: str = field(default=SEED_CHANNEL, validator=_names_project_and_stage)
    """The pattern of the channels' names, with {project_id} and {stage_name}; `off` for none."""
    full_text: bool = False
    """Whether tokens carry `full_text` there, as readers of old expect, at a cost that grows with the text."""
