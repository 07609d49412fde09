"""Django's settings. The names that begin with STAGECAST_, REDIS_URL and CELERY_BROKER_URL are stagecast's too."""

import os

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "only for this example")
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
INSTALLED_APPS = ["daphne", "stories"]  # with daphne `manage.py runserver` serves config.asgi, and so the streams
MIDDLEWARE = [  # without sessions there is nothing that CSRF could use
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
]
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
USE_TZ = True

# The bus of stagecast, and Celery's broker.
REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/5")

CELERY_BROKER_URL = REDIS_URL
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ROUTES = {"stories.tasks.*": {"queue": "llm"}}

# A front end on Vite's port may read the streams. All other settings of docs/configuration.md go here as well.
STAGECAST_CORS_ORIGINS = ["http://localhost:5173"]
STAGECAST_SSE_HEARTBEAT = 15
