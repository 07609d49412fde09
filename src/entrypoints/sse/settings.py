"""What an operator can set of the SSE edge, with its defaults and bounds. Needs no package beyond the core's."""

import re
from collections.abc import Iterable

from attrs import field, frozen, validators

from stagecast.domain.errors import NotConfigured

ANY, OPAQUE = "*", "null"
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[1-9][0-9]{0,4})?", re.ASCII)
_DEFAULT_PORTS = re.compile(r"http://.*:80|https://.*:443")


def _lower(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)


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
    """Streams of one principal (as an access policy names it) in this process. Who is nobody in particular is none."""
    address_connections: int = field(default=10_000, validator=validators.gt(0))
    """Streams of one client address (IPv6: of one /64) in this process. As many as there may be at all: behind a proxy
    that names no client, and on loopback, all viewers have one address."""
    url_bytes: int = field(default=8 * 1024, validator=validators.gt(0))
    """Of a path with its query; a longer one is answered with 414."""
    header_bytes: int = field(default=16 * 1024, validator=validators.gt(0))
    """Of all headers of a request, cookies among them; more are answered with 431."""
    request_seconds: float = field(default=20.0, validator=validators.gt(0))
    """That a request may take to arrive whole, where `stagecast serve` is the server; then the connection is closed."""
    hosts: frozenset[str] = field(factory=frozenset, converter=_lower)
    """Names of this machine beside localhost: where no policy protects the streams, no other Host is served."""


def _frozen(origins: Iterable[str]) -> frozenset[str]:
    return frozenset(origins)


@frozen(kw_only=True)
class CorsSettings:
    """The origins whose pages may read the streams, and whether with the browser's credentials (cookies).

    `origins` are exact, as a browser writes them, or `*` for all; `null`, which any sandboxed page sends, counts only
    where it is listed itself. Raises NotConfigured for an origin that no browser sends, and for credentials with
    anything but exact origins: every page could read what its visitor may.
    """

    origins: frozenset[str] = field(factory=frozenset, converter=_frozen)
    """None of them: pages of no other origin."""
    credentials: bool = False
    max_age: int = 600
    """Seconds that a browser remembers the answer to a preflight."""

    def __attrs_post_init__(self) -> None:
        for origin in self.origins - {ANY, OPAQUE}:
            if not _ORIGIN.fullmatch(origin) or _DEFAULT_PORTS.fullmatch(origin):
                raise NotConfigured(
                    f"{origin!r} is not an origin as browsers send it: scheme://host[:port] in lower case, "
                    "without a path, a slash at the end or the scheme's default port"
                )
        if self.credentials and not self.origins:
            raise NotConfigured("CORS with credentials needs exact origins")
        if ANY in self.origins and self.origins - {ANY, OPAQUE}:
            raise NotConfigured("CORS takes exact origins or *, not both")
        if self.credentials and self.origins & {ANY, OPAQUE}:
            raise NotConfigured("CORS with credentials needs exact origins: neither * nor null")

    def allows(self, origin: str) -> bool:
        """Whether a page of `origin` may read."""
        return origin in self.origins or (ANY in self.origins and origin != OPAQUE)
