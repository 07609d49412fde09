# pyright: reportMissingImports=false
"""(c) django-eventstream; also its publisher, which needs Django's settings."""

import os

import django
from django.core.asgi import get_asgi_application
from django.urls import include, path

from .sources import Paced, Place, message


def open_source(place: Place) -> Paced:
    """`send_event`, which publishes to Redis."""
    from django_eventstream import send_event

    return Paced(lambda topic, content: send_event(topic, "message", message(topic, content)))


if "BENCHMARK_REDIS" in os.environ:
    django.setup()
    urlpatterns = [path("<topic>/", include("django_eventstream.urls"), {"format-channels": ["{topic}"]})]
    app = get_asgi_application()
