"""The SSE edge: browsers follow topics over HTTP. `app` is the ASGI application, configured by the environment.

Importing this package creates nothing and needs no package beyond the core's; the first use of a name does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stagecast.domain.errors import NotConfigured

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from .access import configured_policy
    from .asgi import create_app
    from .server import Server, is_loopback
    from .settings import CorsSettings, EdgeSettings

    app: Starlette

__all__ = [
    "CorsSettings",
    "EdgeSettings",
    "Server",
    "app",
    "configured_policy",
    "create_app",
    "is_loopback",
]

_HOMES = {
    "configured_policy": "access",
    "app": "asgi",
    "create_app": "asgi",
    "CorsSettings": "settings",
    "Server": "server",
    "is_loopback": "server",
    "EdgeSettings": "settings",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("stagecast"):
            raise
        raise NotConfigured(f"the SSE edge needs the package {error.name}: pip install 'stagecast[sse]'") from error
    value = module.create_app() if name == "app" else getattr(module, name)
    globals()[name] = value
    return value
