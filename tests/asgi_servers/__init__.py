"""The application under each ASGI server that users run it with, started for real."""
