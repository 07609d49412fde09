"""The demo's page with everything in this process: each job is a thread, and the bus is a shared object."""

import threading

from starlette.applications import Starlette

from stagecast.domain.bus import MessageBus

from .app import create_demo_app
from .config import Setting
from .pipeline import Job, announce, run


def create_app(bus: MessageBus, setting: Setting, picture_pause: float) -> Starlette:
    """The application; `bus` may be any, and stays the caller's."""

    def start(job: Job) -> None:
        announce(job, bus)
        arguments = (job, bus, setting.writer, picture_pause)
        threading.Thread(target=run, args=arguments, name="pipeline", daemon=True).start()

    return create_demo_app(bus, start, setting)
