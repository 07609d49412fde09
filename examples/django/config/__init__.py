"""The project. Its Celery app is imported with it, so that Django's views and `celery -A config` share it."""

from .celery import app as celery_app

__all__ = ["celery_app"]
