"""What an operator can set of the SSE edge, with its defaults and bounds."""

from attrs import field, frozen, validators


@frozen(kw_only=True)
class EdgeSettings:
    """Times in seconds, counts of connections. Raises ValueError for a value out of range."""

    heartbeat: float = field(default=15.0, validator=(validators.gt(0), validators.le(30)))
    """Between two comments on a quiet connection; proxies commonly close one that is silent for 60 s."""
    stage_idle: float = field(default=600.0, validator=validators.gt(0))
    """Without an event after which a stage's stream ends; a queued or leased run is never idle."""
    project_idle: float = field(default=1800.0, validator=validators.gt(0))
    """The same for a project's stream."""
    grace: float = field(default=30.0, validator=validators.ge(0))
    """After its end in which a finished run is still shown to a viewer who comes fresh: a `done` just missed."""
    patience: float = field(default=5.0, validator=validators.gt(0))
    """That a new connection waits for a bus which is away before it is asked to come back."""
    linger: float = field(default=5.0, validator=validators.ge(0))
    """That a project stays subscribed after its last viewer left: reloads find it warm."""
    stall: float = field(default=120.0, validator=validators.gt(0))
    """That a client may take nothing at all before it counts as gone."""
    connections: int = field(default=10_000, validator=validators.gt(0))
    """Streams of this process."""
    project_connections: int = field(default=10_000, validator=validators.gt(0))
    """Streams of one project in this process."""
    principal_connections: int = field(default=1_000, validator=validators.gt(0))
    """Streams of one principal (as an access policy names it) in this process."""
