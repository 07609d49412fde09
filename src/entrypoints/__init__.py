"""The ways in: Celery, SSE, the command line and the testing kit; the only layer that chooses adapters."""
