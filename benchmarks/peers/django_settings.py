"""Django's settings for django-eventstream with its Redis option."""

import os
from urllib.parse import urlsplit

_redis = urlsplit(os.environ["BENCHMARK_REDIS"])

ALLOWED_HOSTS = ["*"]
SECRET_KEY = "not a secret: it signs nothing here"
INSTALLED_APPS = ["django_eventstream"]
MIDDLEWARE: list[str] = []
ROOT_URLCONF = "benchmarks.peers.django_app"
USE_TZ = True
LOGGING_CONFIG = None
EVENTSTREAM_REDIS = {"host": _redis.hostname, "port": _redis.port, "db": 0}
