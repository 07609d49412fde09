"""`stagecast doctor`: examines the bus and the way to the browser; each finding says what to do."""

import argparse
import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit
from uuid import uuid4

from attrs import asdict

from stagecast.domain.bus import MessageBus
from stagecast.domain.errors import BusUnavailable, NotConfigured, StagecastError
from stagecast.entrypoints import configuration, wiring
from stagecast.entrypoints.publishers import RedisStreamPublisher
from stagecast.entrypoints.sse.access import configured_policy
from stagecast.entrypoints.subscribers import RedisStreamSubscriber

from .findings import Finding, of_contents, of_server

STAGE = "doctor"
PATIENCE = 5.0
_REDIS = {"redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"}
_SLOW = 0.5


def main(options: argparse.Namespace) -> int:
    """Print the findings; 1 where one is a problem. `options`: bus, url, json."""
    has_problem = False
    for finding in examined(options.bus, options.url):
        has_problem = has_problem or finding.verdict == "problem"
        print(json.dumps(asdict(finding), ensure_ascii=False) if options.json else finding, flush=True)
    return 1 if has_problem else 0


def examined(bus: str | None, server: str | None) -> Iterator[Finding]:
    """The findings, each as soon as it is there."""
    try:
        url = bus or configuration.bus_url()
        opened = wiring.shared_bus(url)
        limits = configuration.current().limits
    except NotConfigured as error:
        yield Finding("configured", "problem", str(error), "name a bus by --bus or STAGECAST_BUS")
        return
    yield Finding("configured", "ok", without_password(url))
    try:
        configured_policy()
    except NotConfigured as error:
        yield Finding("access", "problem", str(error), "a server does not start so: see docs/configuration.md, access")
    if urlsplit(url).scheme in _REDIS:
        from stagecast.adapters.redis import inspection

        try:
            yield from of_server(asyncio.run(inspection.inspect_server(url)), limits)
            yield from of_contents(asyncio.run(inspection.inspect_contents(url)))
        except (BusUnavailable, ValueError) as error:  # ValueError: redis-py cannot read the URL
            advice = "see that the server runs, that host, port and password are right, and that no firewall is between"
            yield Finding("reachable", "problem", str(error), advice)
            return
    else:
        found = f"the server's checks do not apply to {urlsplit(url).scheme}://"
        yield Finding("server", "skipped", found)
    yield _round_trip(url)
    if server is not None:
        yield _through_server(url, opened, server)


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    query = "?..." if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"


def _round_trip(url: str) -> Finding:
    check = "round trip"
    advice = "see the findings above; the log stagecast.* at level DEBUG says more"
    with _scratch(url) as project:
        try:
            with (
                RedisStreamSubscriber(project, STAGE, bus=url, timeout=PATIENCE) as subscriber,
                RedisStreamPublisher(project, STAGE, bus=url, strict=True, timeout=PATIENCE) as publisher,
            ):
                began = time.monotonic()
                publisher.publish_token("round trip")
                arrived = next((one for one in subscriber.listen(PATIENCE) if one["type"] == "token"), None)
                seconds = time.monotonic() - began
                publisher.publish_done()
        except StagecastError as error:
            return Finding(check, "problem", str(error), advice)
    if arrived is None:
        return Finding(check, "problem", f"a published token did not arrive within {PATIENCE:g} s", advice)
    found = f"a published token arrived after {seconds * 1000:.1f} ms"
    if seconds > _SLOW:
        return Finding(check, "warning", found, "the server is slow or far away: see `ping`, and SLOWLOG GET on it")
    return Finding(check, "ok", found)


def _through_server(url: str, bus: MessageBus, server: str) -> Finding:
    from . import through_server

    if not bus.capabilities.processes:
        found = f"{without_password(url)} reaches this process only, not {server}"
        return Finding(through_server.CHECK, "skipped", found, "name the server's bus by --bus")
    with _scratch(url) as project:
        return through_server.check(server, url, project, STAGE)


@contextmanager
def _scratch(url: str) -> Iterator[str]:
    """A project of our own; what is kept of it is deleted afterwards, or else when its time to live is over."""
    project = f"stagecast-doctor-{uuid4().hex}"
    try:
        yield project
    finally:
        if urlsplit(url).scheme in _REDIS:
            from stagecast.adapters.redis import inspection

            with suppress(BusUnavailable):
                asyncio.run(inspection.forget(url, project, STAGE))
