"""An origin of its own, whose pages follow streams of another one: the seed's client, and its users' later one."""

import json
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from tests.seed.documents import ROOT, the_block

HERE = Path(__file__).parent
LATER_CLIENT = ROOT / "examples" / "moving-from-core-redis" / "client.js"
SEEDS_SERVER = "http://localhost:8000"
"""What the seed's example has for the server's URL; the one thing that is changed in it."""

_PAGE = """<!doctype html><meta charset="utf-8"><title>client</title><link rel="icon" href="data:,">
<script>
  const projectId = %(project)s, seen = [], shown = [], percents = [];
  let failures = 0;
  const record = (message) => seen.push(message);
  const updateUI = (text) => shown.push(text);
  const updateProgress = (percent) => percents.push(percent);
</script>
<script>%(client)s%(start)s</script>
"""
"""Client and start are one script, so that nothing arrives between them."""
_START_SEEDS = """
  eventSource.addEventListener('message', (event) => record(JSON.parse(event.data)));
  eventSource.addEventListener('error', () => { failures += 1; });
  const isClosed = () => eventSource.readyState === EventSource.CLOSED;
"""
_ELEMENTS = """
  const output = document.createElement('pre'), bar = document.createElement('progress');
  bar.max = 100;
"""
_START_LATER = """
  const client = new ProjectStreamClient(%(server)s, projectId, %(stage)s);
  client.on('*', record).on('connection_error', () => { failures += 1; });
  client.on('token', (token) => updateUI(token.full_text)).on('progress', (news) => updateProgress(news.progress));
  client.connect();
  const isClosed = () => client.isClosed;
"""


def create_origin() -> Starlette:
    """Pages `/seed`, `/document`, `/readme`, `/later`; the query has `server`, `project` and, for `/later`, `stage`."""
    return Starlette(
        routes=[
            Route("/seed", _seeds),
            Route("/document", _documents),
            Route("/readme", _readmes),
            Route("/later", _later),
        ]
    )


def _seeds(request: Request) -> HTMLResponse:
    script = (HERE / "seed_client.js").read_text("utf-8")
    assert script.count(SEEDS_SERVER) == 1
    return _page(request, script.replace(SEEDS_SERVER, request.query_params["server"]), _START_SEEDS)


def _documents(request: Request) -> HTMLResponse:
    """The block of README.zh-CN.md as it is there, but for the server before its path."""
    return _page(request, _at(request, the_block("javascript").text, "`/api/v1/"), _START_SEEDS)


def _readmes(request: Request) -> HTMLResponse:
    """The same of README.md, which has elements to show things in, and the project 123."""
    script = _at(request, the_block("javascript", ROOT / "README.md").text, '"/api/v1/')
    assert script.count("/123/") == 1
    script = script.replace("/123/", f"/{request.query_params['project']}/")
    return _page(request, _ELEMENTS + script, "const eventSource = source;" + _START_SEEDS)


def _at(request: Request, script: str, path: str) -> str:
    assert script.count(path) == 1
    return script.replace(path, f"{path[0]}{request.query_params['server']}{path[1:]}")


def _later(request: Request) -> HTMLResponse:
    query = request.query_params
    start = _START_LATER % {"server": json.dumps(query["server"]), "stage": json.dumps(query.get("stage"))}
    return _page(request, LATER_CLIENT.read_text("utf-8"), start)


def _page(request: Request, client: str, start: str) -> HTMLResponse:
    project = json.dumps(request.query_params["project"])
    return HTMLResponse(_PAGE % {"project": project, "client": client, "start": start})
