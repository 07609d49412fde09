"""The demo's web application over real HTTP: the page, its policy, and what the button's route refuses."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from stagecast.domain.errors import BusUnavailable
from stagecast.entrypoints import wiring
from stagecast.entrypoints.demo.app import PAGE, create_demo_app
from stagecast.entrypoints.demo.config import Setting
from stagecast.entrypoints.demo.pipeline import Job
from stagecast.entrypoints.demo.writer import LocalWriter
from tests.demo import TEXT, Demo, demo_in_memory


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    with demo_in_memory() as running:
        yield running


@pytest.fixture
def client(demo: Demo) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=demo.url, timeout=10) as opened:
        yield opened


@pytest.mark.parametrize("path", ["/", *(f"/demo/{file.name}" for file in sorted(PAGE.iterdir()))])
def test_every_file_of_the_page_is_served_with_its_policy(client: httpx.Client, path: str) -> None:
    """Scripts, styles and images come from this server alone; nothing inline runs."""
    answer = client.get(path)
    assert answer.status_code == 200
    policy = dict(one.strip().split(" ", 1) for one in answer.headers["content-security-policy"].split(";"))
    assert policy.pop("img-src") == "'self' data:"
    assert {policy.pop(name) for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert policy == dict.fromkeys(("default-src", "base-uri", "form-action", "frame-ancestors"), "'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_has_nothing_inline(client: httpx.Client) -> None:
    """No inline script, style or handler, so the policy needs no exception; and no code makes HTML of text."""
    page = client.get("/").text
    assert "<style" not in page
    assert " style=" not in page
    assert " onclick" not in page
    for script in PAGE.glob("*.js"):
        source = script.read_text(encoding="utf-8")
        assert not any(word in source for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"))


def test_the_setting_tells_who_writes(client: httpx.Client) -> None:
    """The page shows the text to begin with, the transport, and that no model is at work."""
    setting = client.get("/demo/setting").json()
    assert setting["text"] == TEXT
    assert setting["model"] is None
    assert setting["stages"] == ["rewrite", "storyboard", "image_generation"]


def test_a_job_is_accepted_and_streams(client: httpx.Client) -> None:
    """202 with the runs; the stage's stream under the seed's route then shows it from the start to the end."""
    accepted = client.post("/demo/runs", json={"text": "A boat 🌊. 船来了。"})
    assert accepted.status_code == 202
    assert set(accepted.json()["runs"]) == {"rewrite", "storyboard", "image_generation", "pipeline"}
    with client.stream("GET", "/api/v1/sse/projects/123/stages/rewrite/") as stream:
        datas = [json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line.startswith("data: ")]
    assert datas[0]["type"] == "connected"
    assert datas[-1]["type"] == "stream_end"
    assert "done" in [message["type"] for message in datas]


@pytest.mark.parametrize(
    ("request_of", "reason"),
    [
        ({"json": {"text": " … "}}, "no words"),
        ({"json": {"text": 7}}, "send"),
        ({"json": {"text": "boat", "fail_stage": 7}}, "send"),
        ({"json": {"text": "boat", "fail_stage": "video"}}, "no stage"),
        ({"json": ["boat"]}, "no JSON object"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, "no JSON"),
        ({"content": b"\xff", "headers": {"content-type": "application/json"}}, "no JSON"),
        ({"content": b'{"text": "boat"}', "headers": {"content-type": "text/plain"}}, "application/json"),
        ({"json": {"text": "a" * 200_000}}, "too large"),
    ],
)
def test_a_bad_request_is_told_why(client: httpx.Client, request_of: dict[str, Any], reason: str) -> None:
    """422 with a reason that the page shows; a form of a foreign page is refused by its content type."""
    answer = client.post("/demo/runs", **request_of)
    assert answer.status_code == 422
    assert reason in answer.json()["error"]


@pytest.mark.anyio
async def test_a_bus_that_is_away_is_503() -> None:
    """Nothing is started; the page says so."""

    def start(job: Job) -> None:
        raise BusUnavailable("the bus does not answer")

    setting = Setting(text=TEXT, transport="", writer=LocalWriter(0))
    app: Starlette = create_demo_app(wiring.open_bus("memory://"), start, setting)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://demo") as client:
        answer = await client.post("/demo/runs", json={"text": "boat"})
    assert answer.status_code == 503
    assert answer.json() == {"error": "the bus does not answer"}
