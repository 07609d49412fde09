"""stagecast: live, lossless progress of long jobs, from a worker to a browser."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stagecast.entrypoints.publishers import RedisStreamPublisher
    from stagecast.entrypoints.subscribers import RedisStreamSubscriber
    from stagecast.entrypoints.wiring import open_bus

__version__ = "0.1.0"
__all__ = ["RedisStreamPublisher", "RedisStreamSubscriber", "__version__", "open_bus"]

_HOMES = {
    "RedisStreamPublisher": "stagecast.entrypoints.publishers",
    "RedisStreamSubscriber": "stagecast.entrypoints.subscribers",
    "open_bus": "stagecast.entrypoints.wiring",
}


def __getattr__(name: str) -> object:
    """The public names, each imported at its first use: importing stagecast alone is cheap and creates nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
