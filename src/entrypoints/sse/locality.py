"""Where no access policy protects the streams: whether a request surely comes from this machine. Knows no project."""

import ipaddress
from collections.abc import Collection

from attrs import frozen
from starlette.requests import HTTPConnection
from starlette.types import Scope

_NAMING_CLIENTS = "x-forwarded-for", "x-real-ip"
_ADVICE = (
    "without an access policy only this machine is served: set STAGECAST_JWT_SECRET, "
    "or STAGECAST_ALLOW_PUBLIC where everybody may see everything"
)


@frozen
class Foreign:
    """Why a request may come from elsewhere: in a word, and as its sender is told."""

    reason: str
    detail: str


def foreign(request: HTTPConnection, names: Collection[str]) -> Foreign | None:
    """Why `request` may come from another machine, or from another site's page; None where nothing says so.

    A proxy on this machine connects from loopback, whoever asked it: most tell for whom. And a page of evil.example,
    whose name its owner lets point to 127.0.0.1 once it is loaded, may ask this server as its own; the browser tells
    the name. `names` are other names than localhost that this machine has, in lower case.
    """
    if is_public(request.scope):
        return Foreign("public", "without an access policy only loopback is served: set STAGECAST_JWT_SECRET")
    if _is_handed_on(request):
        return Foreign("proxy", f"a proxy has handed this on for another machine; {_ADVICE}")
    server, _ = request.scope.get("server") or (None, None)
    if server is None or _address(server) is not None:  # neither a socket's path nor a test client
        hosts = [_name_of(host) for host in request.headers.getlist("host")]
        if not all(host in names or _is_local(host) for host in hosts):
            return Foreign("host", f"the Host is not localhost; {_ADVICE}, or name it in STAGECAST_SSE_HOSTS")
    return None


def is_public(scope: Scope) -> bool:
    """Whether the connection came in on another address of this machine than loopback; False where nobody can tell."""
    host, _ = scope.get("server") or ("", None)
    address = _address(host)
    return address is not None and not address.is_loopback


def counted_as(scope: Scope) -> str | None:
    """The client's address, as connections are counted by it: an IPv6 network of 64 bits, which is one site.

    What the server takes for the client's: one that a proxy names only where the server trusts that proxy. None where
    there is none.
    """
    host, _ = scope.get("client") or (None, None)
    if not host or ":" not in host:
        return host or None
    address = _address(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Address(int(address) >> 64 << 64))
    return host if address is None else str(address)


def _is_handed_on(request: HTTPConnection) -> bool:
    """Whether a proxy says that it asks for another machine.

    Who claims to be loopback gains nothing: a proxy adds its own client's address, or none is there at all.
    """
    if "forwarded" in request.headers:
        return True
    clients = [one for name in _NAMING_CLIENTS for value in request.headers.getlist(name) for one in value.split(",")]
    return not all(_is_local(_name_of(client)) for client in clients)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """`host` as an address; one of IPv4 in IPv6's clothes is one of IPv4."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _name_of(host: str) -> str:
    """A Host header, or a client's address, without its port."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host


def _is_local(name: str) -> bool:
    name = name.removesuffix(".")
    address = _address(name)
    return name == "localhost" or name.endswith(".localhost") or (address is not None and address.is_loopback)
