"""The ASGI application: stagecast serves /api/v1/sse/ (and /healthz, /readyz), Django everything else."""

import os

from django.core.asgi import get_asgi_application
from starlette.routing import Mount

from stagecast.entrypoints.sse import create_app

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# Django comes first: create_app reads its settings. stagecast is the outer application, because servers run the
# lifespan of that one alone, and Django has none.
django_application = get_asgi_application()
application = create_app(routes=[Mount("/", app=django_application)])
