"""The composition root: the one place that chooses a transport. Importing it creates nothing."""

import os
import threading
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TypeAlias
from urllib.parse import urlsplit

from stagecast.adapters.codec import JsonCodec
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


_BUILDERS: dict[str, Builder] = {
    "memory": _open_memory,
    "redis": _open_redis,
    "rediss": _open_redis,
    "unix": _open_redis,
    "redis+sentinel": _open_redis,
    "rediss+sentinel": _open_redis,
}
_EXTRAS = dict.fromkeys((scheme for scheme, builder in _BUILDERS.items() if builder is _open_redis), "redis")

_ADVICE = {
    "sentinel": "this URL, Celery's, does not name the master: "
    "set STAGECAST_BUS, for example to redis+sentinel://host1:26379,host2:26379/name-of-the-master/0",
    "redis+cluster": "Redis Cluster is not supported: name one Redis, or Sentinels by redis+sentinel://",
}
"""For schemes that others have."""

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
        extra = _EXTRAS.get(scheme)
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
    found = {point.name: point for point in entry_points(group=TRANSPORTS)}
    if scheme in found:
        third_party: Builder = found[scheme].load()
        return third_party
    if scheme in _ADVICE:
        raise NotConfigured(f"no transport for {scheme}://: {_ADVICE[scheme]}")
    known = ", ".join(f"{one}://" for one in sorted({*_BUILDERS, *found}))
    raise NotConfigured(f"no transport for {scheme or 'a URL without a scheme'}://; there are {known}")


def _after_fork() -> None:
    global _shared_lock
    _shared_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
