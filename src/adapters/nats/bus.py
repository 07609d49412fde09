"""`nats://`: a bus on NATS JetStream."""

from stagecast.adapters.transport import StoredBus
from stagecast.domain.bus import BusLimits, Capabilities, EventCodec

from .settings import settings_of
from .store import NatsStore


def open_nats_bus(url: str, codec: EventCodec, limits: BusLimits) -> StoredBus:
    """A bus for `nats://user:password@host1:4222,host2:4222?stream=STAGECAST`; `nats+tls://` encrypts.

    Raises NotConfigured.
    """
    settings = settings_of(url)
    return StoredBus(lambda: NatsStore(settings, limits.time_to_live), codec, limits, Capabilities(persistent=True))
