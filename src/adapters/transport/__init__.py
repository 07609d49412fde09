"""What transports are made of: the log's rules as a bus over any store, and what every bus has in an event loop."""

from .store import Change, Entry, Head, LedgerStore
from .stored_bus import StoredBus

__all__ = ["Change", "Entry", "Head", "LedgerStore", "StoredBus"]
