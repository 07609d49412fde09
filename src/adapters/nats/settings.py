"""What the URL of a NATS bus says: servers, credentials, and the options of its query. Needs no NATS package."""

import re
import ssl
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import field, frozen, validators

from stagecast.domain.errors import NotConfigured

PORT = 4222
_SECONDS = validators.and_(validators.gt(0.0), validators.lt(1e9))
_EXAMPLE = "the URL of a NATS bus is nats://host:4222, or nats://user:password@host1:4222,host2:4222?replicas=3"
_HOST = re.compile(r"(?:[^\s:,\[\]/@]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


@frozen(kw_only=True)
class NatsSettings:
    """Where and how to connect. Raises ValueError for a value out of range."""

    servers: tuple[str, ...]
    """Each `host:port`, of one cluster."""
    tls: bool = False
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    stream: str = field(default="STAGECAST", validator=validators.matches_re(r"[A-Za-z0-9_-]{1,64}"))
    """The name of the stream that everything is kept in. It is created where there is none."""
    replicas: int = field(default=1, validator=validators.in_(range(1, 6)))
    """On how many servers of the cluster the stream is kept, where stagecast creates it."""
    connect_timeout: float = field(default=5.0, validator=_SECONDS)
    """Seconds to wait for a connection."""
    command_timeout: float = field(default=5.0, validator=_SECONDS)
    """Seconds to wait for the answer to a request."""
    tls_ca: str = ""
    """A file with the certificates of those who may vouch for the servers; the system's, where empty."""

    @property
    def shown(self) -> str:
        """The servers, as errors and logs name them."""
        return ", ".join(self.servers)

    def tls_context(self) -> ssl.SSLContext | None:
        """None where the URL asks for no TLS. Raises OSError where the file cannot be read."""
        return ssl.create_default_context(cafile=self.tls_ca or None) if self.tls else None


_OPTIONS = {"stream": str, "replicas": int, "connect_timeout": float, "command_timeout": float, "tls_ca": str}


def settings_of(url: str) -> NatsSettings:
    """What `url` says. Raises NotConfigured, whose message has no credentials."""
    parts = urlsplit(url)
    credentials, at, hosts = parts.netloc.rpartition("@")
    servers = hosts.split(",")
    if parts.path.strip("/") or parts.fragment or not all(_HOST.fullmatch(host) for host in servers):
        raise NotConfigured(_EXAMPLE + "; what is special in a password must be percent-encoded")
    user, colon, password = (unquote(part) for part in credentials.partition(":"))
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(options.keys() - _OPTIONS.keys()):
        raise NotConfigured(f"a NATS bus has no option {unknown[0]!r}; it has {', '.join(_OPTIONS)}")
    values: dict[str, object] = {}
    for name, text in options.items():
        try:
            values[name] = _OPTIONS[name](text)
        except ValueError:
            raise NotConfigured(f"{name} in the URL of a NATS bus cannot be {text!r}") from None
    try:
        return NatsSettings(
            servers=tuple(host if re.search(r":[0-9]+$", host) else f"{host}:{PORT}" for host in servers),
            tls=parts.scheme == "nats+tls",
            user=user if colon else None,
            password=password if colon else None,
            token=user if at and not colon else None,
            **values,  # type: ignore[arg-type]
        )
    except ValueError as error:
        raise NotConfigured(f"the URL of a NATS bus: {error.args[0]}") from error
