# pyright: reportMissingImports=false
"""(d) flask-sse; also its publisher, which needs an application."""

import os

from flask import Flask
from flask_sse import sse

from .sources import Paced, Place, message

app = Flask(__name__)
app.config["REDIS_URL"] = os.environ.get("BENCHMARK_REDIS", "")
app.register_blueprint(sse, url_prefix="/")


def open_source(place: Place) -> Paced:
    app.config["REDIS_URL"] = place.redis_url
    app.app_context().push()
    return Paced(lambda topic, content: sse.publish(message(topic, content), channel=topic))
