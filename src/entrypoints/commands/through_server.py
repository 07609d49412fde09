"""A round trip through a running SSE server: do tokens arrive one by one, or does a proxy hold them back?"""

import http.client
import json
import os
import queue
import threading
import time
from contextlib import closing
from typing import TypeAlias
from urllib.parse import urlsplit

from stagecast.domain.errors import StagecastError
from stagecast.entrypoints.publishers import RedisStreamPublisher

from .findings import Finding

TOKEN_VARIABLE = "STAGECAST_TOKEN"  # noqa: S105  # a name, not a secret
GUARDED = "stream/"
"""What the routes end with that ask an access policy."""
CHECK = "through the server"
TOKENS = 8
PATIENCE = 3.0
"""Seconds that one token may take."""
_SLOW = 0.5

Arrivals: TypeAlias = "queue.Queue[str | Finding | None]"
"""What each message adds to the text, why there is no stream, or None at its end."""


def check(server: str, bus: str, project: str, stage: str) -> Finding:
    """Publish tokens one after the other, each when the one before has arrived, and measure."""
    parts = urlsplit(server)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return Finding(CHECK, "problem", f"{server} is no http URL", "give the server's, as http://localhost:8000/")
    path = f"/api/v1/sse/projects/{project}/stages/{stage}/"
    arrivals: Arrivals = queue.Queue()
    thread = threading.Thread(target=_read, args=(server, path, arrivals), name="stagecast-doctor", daemon=True)
    thread.start()
    first = _next(arrivals, time.monotonic() + PATIENCE)
    if isinstance(first, Finding):
        return first
    try:
        with RedisStreamPublisher(project, stage, bus=bus) as publisher:
            if first is None:
                publisher.publish_token("0 ")
                finding = _late(publisher, arrivals, "")
            else:
                finding = _measured(publisher, arrivals)
    except StagecastError as error:
        return Finding(CHECK, "problem", str(error), "see the findings about the bus")
    thread.join(1)
    return finding


def _measured(publisher: RedisStreamPublisher, arrivals: Arrivals) -> Finding:
    delays: list[float] = []
    text = ""
    for number in range(TOKENS):
        began = time.monotonic()
        publisher.publish_token(f"{number} ")
        while len(text) < len(publisher.text):
            more = _next(arrivals, began + PATIENCE)
            if isinstance(more, Finding):
                return more
            if more is None:
                return _late(publisher, arrivals, text)
            text += more
        delays.append(time.monotonic() - began)
    publisher.publish_done()
    middle, slowest = sorted(delays)[len(delays) // 2] * 1000, max(delays)
    found = f"{TOKENS} tokens arrived one by one, within {middle:.0f} ms each, the slowest {slowest * 1000:.0f} ms"
    if slowest > _SLOW:
        return Finding(CHECK, "warning", found, "see what a proxy or the network adds; `ping` tells the bus's part")
    return Finding(CHECK, "ok", found)


def _late(publisher: RedisStreamPublisher, arrivals: Arrivals, text: str) -> Finding:
    """A token did not come. If the end of the stream brings it, something on the way has held it back."""
    expected = publisher.text
    publisher.publish_done()
    deadline = time.monotonic() + PATIENCE
    while len(text) < len(expected) and isinstance(more := _next(arrivals, deadline), str):
        text += more
    if len(text) >= len(expected):
        advice = "a proxy buffers: for nginx proxy_buffering off and gzip off for this path"
        return Finding(CHECK, "problem", "tokens arrive only when the stream ends", advice)
    advice = "see that the server uses the same bus, and that no proxy buffers (nginx: proxy_buffering off)"
    return Finding(CHECK, "problem", f"a token did not arrive within {PATIENCE:g} s", advice)


def _next(arrivals: Arrivals, deadline: float) -> str | Finding | None:
    try:
        return arrivals.get(timeout=max(deadline - time.monotonic(), 0))
    except queue.Empty:
        return None


def _read(server: str, path: str, arrivals: Arrivals) -> None:
    """Read the stream, in a thread of its own: a proxy may hold back even the head of the answer."""
    try:
        parts = urlsplit(server)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        with closing(kind(parts.hostname or "", parts.port, timeout=3 * PATIENCE)) as connection:
            token = os.environ.get(TOKEN_VARIABLE)
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            path += GUARDED if token else ""
            connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
            response = connection.getresponse()
            if (refusal := _refused(response)) is None:
                _pass_on(response, arrivals)
            else:
                arrivals.put(refusal)
    except (OSError, http.client.HTTPException, ValueError) as error:
        found = f"no stream from {server}: {str(error) or type(error).__name__}"
        advice = "see that the server runs and that proxies and firewalls let it pass"
        arrivals.put(Finding(CHECK, "problem", found, advice))
    arrivals.put(None)


def _pass_on(response: http.client.HTTPResponse, arrivals: Arrivals) -> None:
    while line := response.readline():
        if line.startswith(b"data:"):
            message = json.loads(line[5:])
            if message["type"] in {"done", "error", "stream_end"}:
                return
            arrivals.put(message["content"] if message["type"] == "token" else "")


def _refused(response: http.client.HTTPResponse) -> Finding | None:
    kind = response.headers.get("content-type", "nothing")
    if response.status == 200 and not kind.startswith("text/event-stream"):
        found = f"the answer is {kind}, not text/event-stream"
        return Finding(CHECK, "problem", found, "see that the URL leads to stagecast's server")
    if response.status == 200:
        return None
    found = f"the answer is {response.status} {response.reason}"
    advice = {
        401: f"set {TOKEN_VARIABLE} to a JWT whose claim projects is *, or unset it where there is no access policy",
        403: f"set {TOKEN_VARIABLE} to a JWT whose claim projects is *",
        404: "see that the URL is the one under which stagecast is mounted; where it has an access policy, "
        f"set {TOKEN_VARIABLE} to a JWT whose claim projects is *",
        503: "see the server's log: its bus is unavailable, or it shuts down",
    }
    return Finding(CHECK, "problem", found, advice.get(response.status, "see the log of the server and of its proxy"))
