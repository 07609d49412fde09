"""The demo's web application: the page, the button's route, and the SSE routes of `stagecast.entrypoints.sse`."""

import json
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from stagecast.domain.bus import MessageBus
from stagecast.domain.errors import BusUnavailable, InvalidEvent
from stagecast.entrypoints import sse

from .config import Setting
from .pipeline import LONGEST_TEXT, PROJECT, STAGES, Job

PAGE = Path(__file__).parent / "page"
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_LARGEST_BODY = 8 * LONGEST_TEXT


def create_demo_app(bus: MessageBus | str, start: Callable[[Job], None], setting: Setting) -> Starlette:
    """The application; `start` is called in a thread and begins a job. `Server` of the SSE edge can run it."""

    async def start_run(request: Request) -> Response:
        try:
            body = await _json(request)
            fail_stage = body.get("fail_stage") or None
            text = body.get("text")
            if not isinstance(text, str) or not isinstance(fail_stage, str | None):
                raise InvalidEvent('send {"text": "...", "fail_stage": null}')
            job = Job.of(text, fail_stage)
            await run_in_threadpool(start, job)
        except InvalidEvent as error:
            return _answer({"error": str(error)}, 422)
        except BusUnavailable as error:
            return _answer({"error": str(error)}, 503)
        return _answer({"project_id": job.project, "runs": dict(job.runs)}, 202)

    async def describe(request: Request) -> Response:
        return _answer(
            {
                "project_id": PROJECT,
                "stages": list(STAGES),
                "text": setting.text,
                "longest_text": LONGEST_TEXT,
                "transport": setting.transport,
                "writer": setting.writer.description,
                "model": setting.writer.model,
            }
        )

    return sse.create_app(
        bus,
        routes=[
            Route("/", _file("page.html")),
            *(Route(f"/demo/{path.name}", _file(path.name)) for path in sorted(PAGE.iterdir())),
            Route("/demo/setting", describe),
            Route("/demo/runs", start_run, methods=["POST"]),
        ],
    )


def _file(name: str) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        return FileResponse(PAGE / name, headers=SECURITY)

    return answer


async def _json(request: Request) -> dict[str, object]:
    """The request's body. JSON only: a form of a foreign page cannot send that."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise InvalidEvent("send application/json")
    data = b""
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > _LARGEST_BODY:
                raise InvalidEvent(f"the request is too large; the demo takes {LONGEST_TEXT} characters")
    except ClientDisconnect as error:
        raise InvalidEvent("the request broke off") from error
    try:
        body = json.loads(data)
    except ValueError as error:
        raise InvalidEvent("the body is no JSON") from error
    if not isinstance(body, dict):
        raise InvalidEvent("the body is no JSON object")
    return body


def _answer(content: dict[str, object], status: int = 200) -> Response:
    return JSONResponse(content, status, headers=SECURITY)
