"""The Vue example as Vite builds it, served from an origin of its own, and its development server."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sse.programs import Program
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "vue"
NPM = str(ROOT / "scripts" / "ensure-node.sh")
"""npm in the example's folder, after `npm ci` where that is due."""
PLACEHOLDER = "http://server.invalid"
"""The server's URL in a build; `create_origin` puts the real one in its place."""
INSTALL_SECONDS = 120.0

_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}


def environment(server: str) -> dict[str, str]:
    """Of npm, for pages that read the streams of `server`."""
    return {**os.environ, "PYTHON": sys.executable, "VITE_STAGECAST_URL": server, "NO_COLOR": "1"}


def build(folder: Path, component: str | None = None) -> Path:
    """The folder with the built example, which has another `component` in place of its own if one is given."""
    source, built = EXAMPLE, folder / "built"
    if component is not None:
        _npm("--version")  # node_modules have to be there
        source = folder / "source"
        shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("node_modules", "dist"))
        (source / "node_modules").symlink_to(EXAMPLE / "node_modules")
        (source / "src" / "App.vue").write_text(component, "utf-8")
    _npm("run", "build", "--", str(source), "--outDir", str(built), "--emptyOutDir")
    return built


def _npm(*arguments: str) -> None:
    done = subprocess.run(
        [NPM, *arguments],
        env=environment(PLACEHOLDER),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def create_origin(built: Path) -> Starlette:
    """The built pages; they read the streams of the server whose URL is in `state.server` when they are asked for."""

    def serve(request: Request) -> Response:
        file = built / (request.path_params["path"] or "index.html")
        if not file.is_file():
            raise HTTPException(404)
        text = file.read_text("utf-8").replace(PLACEHOLDER, request.app.state.server)
        return Response(text, media_type=_TYPES[file.suffix], headers={"cache-control": "no-store"})

    return Starlette(routes=[Route("/{path:path}", serve)])


@contextmanager
def dev_server(port: int, server: str) -> Iterator[str]:
    """The URL of a running `npm run dev`, whose pages read the streams of `server`."""
    process = subprocess.Popen(
        [NPM, "run", "dev", "--", "--port", str(port)],
        env=environment(server),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # npm, its shell and Vite end together
    )
    program = Program(process)
    try:
        found = wait_until(
            lambda: re.search(r"Local:\s+(\S+)/", program.output) or process.poll() is not None, INSTALL_SECONDS
        )
        assert isinstance(found, re.Match), program.output
        yield found[1]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        program.exit_code(5)
        assert process.stdout is not None
        process.stdout.close()
