"""What an operator can set of the Redis transport. Needs no Redis package; ADR 0015 has the reason of each default."""

from attrs import field, frozen, validators

SEED_CHANNEL = "ai_story:project:{project_id}:stage:{stage_name}"
NO_CHANNEL = "off"

_SECONDS = validators.and_(validators.gt(0.0), validators.lt(1e9))


def _names_project_and_stage(_: object, __: object, pattern: str) -> None:
    try:
        named = pattern.format(project_id="<p>", stage_name="<s>")
    except (KeyError, IndexError, ValueError):
        named = ""
    if pattern != NO_CHANNEL and not ("<p>" in named and "<s>" in named):
        raise ValueError(f"the seed's channel must name {{project_id}} and {{stage_name}}, or be off: {pattern!r}")


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
