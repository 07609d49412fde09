"""The demo: a pipeline of three stages on a page, in memory or with Redis and Celery. Nothing else imports it."""
