"""The demo's page as an ASGI application for a server process of its own: jobs go to the Celery worker.

python -m uvicorn --factory stagecast.entrypoints.demo.web:create_app
"""

from starlette.applications import Starlette

from stagecast.entrypoints import configuration

from . import config, tasks
from .app import create_demo_app


def create_app() -> Starlette:
    """The application, configured by the environment. Raises NotConfigured."""
    return create_demo_app(configuration.bus_url(), tasks.start, config.setting("Redis and a Celery worker"))
