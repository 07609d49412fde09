"""The SSE edge: browsers follow topics over HTTP. `app` is the ASGI application, configured by the environment.

Importing this package creates nothing and needs no package beyond the core's; the first use of a name does.
"""

from typing import TYPE_CHECKING, Any

from stagecast.domain.errors import NotConfigured

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from .asgi import create_app as create_app
    from .settings import EdgeSettings as EdgeSettings

    app: Starlette

__all__ = ["EdgeSettings", "app", "create_app"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    try:
        from .asgi import create_app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("stagecast"):
            raise
        raise NotConfigured(f"the SSE edge needs the package {error.name}: pip install 'stagecast[sse]'") from error
    from .settings import EdgeSettings

    globals().update(create_app=create_app, EdgeSettings=EdgeSettings)
    if name == "app":
        globals()["app"] = create_app()
    return globals()[name]
