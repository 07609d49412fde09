"""The composition root: the one place that chooses a transport. Importing it creates nothing."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import TypeAlias, cast
from urllib.parse import urlsplit

from stagecast.adapters.codec import JsonCodec
from stagecast.domain.access import UsedTickets
from stagecast.domain.bus import BusLimits, EventCodec, MessageBus
from stagecast.domain.errors import NotConfigured

from . import configuration

TRANSPORTS = "stagecast.transports"
"""The entry-point group of third parties' transports: name = URL scheme, value = a `Builder`."""

Builder: TypeAlias = Callable[[str, EventCodec, BusLimits], MessageBus]
"""Makes a bus from its URL. It must not connect yet."""

CODEC = JsonCodec()


def _open_memory(url: str, codec: EventCodec, limits: BusLimits) -> MessageBus:
    from stagecast.adapters.memory import open_memory_bus

    return open_memory_bus(url, codec, limits)


def _open_redis(url: str, codec: EventCodec, limits: BusLimits) -> MessageBus:
    from stagecast.adapters.redis.bus import open_redis_bus

    configured = configuration.current()
    return open_redis_bus(url, codec, limits, configured.redis, configured.seed)


def _open_nats(url: str, codec: EventCodec, limits: BusLimits) -> MessageBus:
    from stagecast.adapters.nats.bus import open_nats_bus

    return open_nats_bus(url, codec, limits)


_BUILDERS: dict[str, Builder] = {
    "memory": _open_memory,
    "redis": _open_redis,
    "rediss": _open_redis,
    "unix": _open_redis,
    "redis+sentinel": _open_redis,
    "rediss+sentinel": _open_redis,
    "nats": _open_nats,
    "nats+tls": _open_nats,
}
_EXTRAS: dict[Builder, str] = {_open_redis: "redis", _open_nats: "nats"}
"""What to install for a builder."""

_ADVICE = {
    "sentinel": "this URL, Celery's, does not name the master: "
    "set STAGECAST_BUS, for example to redis+sentinel://host1:26379,host2:26379/name-of-the-master/0",
    "redis+cluster": "Redis Cluster is not supported: name one Redis, or Sentinels by redis+sentinel://",
}
"""For schemes that others have."""

IN_PROCESS = "memory://"
"""The URL for what need not be seen by other processes."""

_shared: dict[tuple[int, str], MessageBus] = {}
_shared_lock = threading.Lock()


def open_bus(url: str, limits: BusLimits | None = None) -> MessageBus:
    """A bus of its own for `url`, by the URL's scheme; it connects at its first use. The caller closes it.

    Raises NotConfigured for an unknown scheme or a missing package, and says what to install.
    """
    if not isinstance(url, str):
        raise _no_bus(url)
    try:
        scheme = urlsplit(url).scheme
    except ValueError:  # its message can hold a part of a password
        raise NotConfigured("not the URL of a bus; what is special in a password must be percent-encoded") from None
    try:
        return _builder(scheme)(url, CODEC, limits or configuration.current().limits)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(_BUILDERS.get(scheme, _open_memory))
        advice = f"pip install 'stagecast[{extra}]'" if extra else f"install {error.name}"
        raise NotConfigured(f"a {scheme}:// bus needs the package {error.name}: {advice}") from error


def shared_bus(url: str | None = None) -> MessageBus:
    """The process's one bus for `url`, or for the configured one. A forked child gets its own."""
    url = url or configuration.bus_url()
    with _shared_lock:
        key = (os.getpid(), url)
        if key not in _shared:
            _shared[key] = open_bus(url)
        return _shared[key]


@contextmanager
def standing_in(bus: MessageBus) -> Iterator[None]:
    """For tests: let `bus` be the process's shared one for `IN_PROCESS` in the block."""
    key = (os.getpid(), IN_PROCESS)
    with _shared_lock:
        before = _shared.get(key)
        _shared[key] = bus
    try:
        yield
    finally:
        with _shared_lock:
            del _shared[key]
            if before is not None:
                _shared[key] = before


def open_used_tickets(url: str) -> UsedTickets:
    """What remembers used tickets for all processes that serve the bus at `url`; it connects at its first use.

    Raises NotConfigured for a bus where nothing does.
    """
    builder = _BUILDERS.get(urlsplit(url).scheme)
    if builder is _open_memory:
        from stagecast.adapters.tickets import MemoryUsedTickets

        return MemoryUsedTickets()
    if builder is _open_redis:
        from stagecast.adapters.redis.tickets import open_used_tickets

        return open_used_tickets(url, configuration.current().redis)
    raise NotConfigured(
        "nothing remembers used tickets for this bus: give create_app(used_tickets=...), a "
        "stagecast.domain.access.UsedTickets"
    )


def checked(bus: MessageBus) -> MessageBus:
    """`bus`, if it is one. Raises NotConfigured for anything else that was given for one, such as a Redis client."""
    if all(callable(getattr(bus, name, None)) for name in ("open_run", "publish", "subscribe")):
        return bus
    raise _no_bus(bus)


def _no_bus(given: object) -> NotConfigured:
    kind = f"{type(given).__module__}.{type(given).__qualname__}"
    return NotConfigured(
        f"a {kind} is no bus: give the URL of its server, for example redis://localhost:6379/0, or what open_bus gives"
    )


def _builder(scheme: str) -> Builder:
    if scheme in _BUILDERS:
        return _BUILDERS[scheme]
    points = entry_points(group=TRANSPORTS)
    if offered := [point for point in points if point.name == scheme]:
        return _third_party(scheme, offered)
    if scheme in _ADVICE:
        raise NotConfigured(f"no transport for {scheme}://: {_ADVICE[scheme]}")
    known = {one: _EXTRAS.get(builder) for one, builder in _BUILDERS.items()} | {point.name: None for point in points}
    listed = ", ".join(
        f"{one}://" + (f" (stagecast[{extra}])" if extra else "") for one, extra in sorted(known.items())
    )
    raise NotConfigured(
        f"no transport for {scheme or 'a URL without a scheme'}://; there are {listed}; a package that is not "
        f"installed here may bring another, by the entry-point group {TRANSPORTS}"
    )


def _third_party(scheme: str, offered: list[EntryPoint]) -> Builder:
    """What the entry points for `scheme` name. Raises NotConfigured, and says which distribution is to blame."""
    origins = [f"{point.value} of {point.dist.name} {point.dist.version}" for point in offered if point.dist]
    if len(offered) > 1:
        raise NotConfigured(f"{scheme}:// is offered more than once, uninstall all but one: {', '.join(origins)}")
    origin = next(iter(origins), offered[0].value)
    try:
        loaded: object = offered[0].load()
    except ModuleNotFoundError as error:
        raise NotConfigured(
            f"a {scheme}:// bus needs the package {error.name}: install {error.name}; the transport is {origin}"
        ) from error
    except Exception as error:
        raise NotConfigured(
            f"the transport for {scheme}://, {origin}, cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not callable(loaded):
        raise NotConfigured(f"the transport for {scheme}://, {origin}, is no function that opens a bus")
    return cast(Builder, loaded)


def _after_fork() -> None:
    global _shared_lock
    _shared_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
