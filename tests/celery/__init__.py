"""Tests of the Celery entry point: eager tasks on memory, and real workers with a real server."""
