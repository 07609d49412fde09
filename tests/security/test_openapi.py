"""The OpenAPI document: valid, what the routes are, what messages look like; and a fuzz of the server by it."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
import requests
import schemathesis
from attrs import evolve, fields
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.access import Access, AccessRequest
from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import InvalidTopic, Unauthenticated
from stagecast.domain.events import FAILURE_REASONS, Event
from stagecast.domain.following import Shown
from stagecast.domain.text import is_sound
from stagecast.domain.topics import Topic, identifier
from stagecast.entrypoints.configuration import AccessSettings
from stagecast.entrypoints.messages import message
from stagecast.entrypoints.sse import EdgeSettings, create_app
from stagecast.entrypoints.sse.endpoint import Endpoint
from stagecast.entrypoints.sse.openapi import document
from stagecast.entrypoints.testing.actors import Producer
from stagecast.entrypoints.wiring import CODEC
from tests.security.test_output import AT, EVENTS
from tests.security.texts import bounded, hostile_ids
from tests.sse.browser import project_path, request, stage_path
from tests.sse.serving import Served, served

DOCUMENT = document()
SECRET = "a secret of the tests, which is long enough"
BRIEF = EdgeSettings(stage_idle=0.02, project_idle=0.02)
LIMITS = BusLimits(lease=0.1)
"""Streams end soon, so that a client which reads them whole gets on; what somebody might restore is soon given up."""


class Welcoming:
    """A policy with one token, for everything."""

    async def authorize(self, request: AccessRequest) -> Access:
        if request.token != "good":
            raise Unauthenticated("the token is not valid")
        return Access(principal="me")


def app(bus: MemoryBus | None = None, **options: Any) -> Starlette:
    return create_app(bus or MemoryBus(CODEC, LIMITS), settings=BRIEF, **options)


def guarded(bus: MemoryBus | None = None) -> Starlette:
    """With a policy, tickets, and the open routes too."""
    return app(bus, policy=Welcoming(), access=AccessSettings(ticket_secret=SECRET), open_routes=True)


def schema(name: str) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for({"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]})


def test_the_document_is_valid() -> None:
    """OpenAPI 3.1, by its own schema, with all references."""
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    assert DOCUMENT["openapi"].startswith("3.1.")


def test_the_document_has_the_routes_and_no_other() -> None:
    """Each route with its methods; a new one is to be written down."""
    routes: dict[str, set[str]] = {}
    for route in guarded().routes:
        assert isinstance(route, Route)
        if not route.include_in_schema:  # another spelling
            continue
        endpoint = route.endpoint
        methods = endpoint._methods if isinstance(endpoint, Endpoint) else (route.methods or set()) - {"HEAD"}
        routes[route.path] = {method.lower() for method in methods}
    told = {path: set(item) - {"parameters"} for path, item in DOCUMENT["paths"].items()}
    assert told == routes
    for path, item in DOCUMENT["paths"].items():
        named = [one["name"] for one in item.get("parameters", [])]
        assert named == re.findall(r"\{(\w+)\}", path)


def test_the_document_is_served_and_tells_nothing_of_the_policy() -> None:
    """The same for everybody, with a policy or without; its paths begin where the application is mounted."""
    answers = []
    for prefix, one in (("", app()), ("", guarded()), ("/live", Starlette(routes=[Mount("/live", app=guarded())]))):
        with served(one) as server:
            answers.append(httpx.get(f"http://127.0.0.1:{server.port}{prefix}/openapi.json", timeout=10))
    assert [one.status_code for one in answers] == [200] * 3
    assert answers[0].headers["content-type"] == "application/json"
    assert answers[0].headers["x-content-type-options"] == "nosniff"
    assert answers[0].content == answers[1].content
    assert answers[0].json() == DOCUMENT
    assert answers[2].json() == {**DOCUMENT, "servers": [{"url": "/live"}]}


@bounded
@given(text=st.one_of(hostile_ids, st.text(max_size=4)).filter(is_sound))
def test_the_documents_ids_are_those_that_are_taken(text: str) -> None:
    """Its pattern and the server's rules say the same of all text that JSON can carry."""
    try:
        identifier(text)
        is_taken = True
    except InvalidTopic:
        is_taken = False
    assert schema("Id").is_valid(text) == is_taken


def variants(event: Any) -> Iterator[Event]:
    """The event with each optional field set to None in turn, where it may be."""
    yield event
    for one in fields(type(event)):
        if "None" in str(one.type) and one.name not in {"headers", "extra", "message"}:
            yield evolve(event, **{one.name: None})
    if event.type == "error":
        for reason in FAILURE_REASONS:
            yield evolve(event, reason=reason)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_message_is_as_the_document_says(event: Any) -> None:
    """Each type's message, in both modes, is exactly one of the schemas, and has no field that is not told."""
    for one in variants(event) if isinstance(event, Event) else [event]:
        for full_text in (True, False):
            made = message(Shown(one, AT, "text"), full_text=full_text)
            schema("Message").validate(made)
            known = [
                found["properties"]
                for found in DOCUMENT["components"]["schemas"].values()
                if found.get("properties", {}).get("type", {}).get("const") == made["type"]
            ]
            assert made["type"] == "note" or set(made) <= set(known[0])


async def test_a_stream_is_as_the_document_says() -> None:
    """The server's own messages too, over a real connection, of a stage and of a project."""
    bus = MemoryBus(CODEC, BusLimits())
    producer = Producer(Topic("p", "s"))
    await producer.write(bus, "a")
    await producer.send(bus, producer.done("a"))
    with served(app(bus)) as server:
        for path in (stage_path("p", "s", "replay=latest"), project_path("p", "replay=latest")):
            async with request(server.port, path) as response:
                messages = await response.rest()
            assert {one["type"] for one in messages} >= {"connected", "token", "done", "stream_end"}
            for one in messages:
                schema("Message").validate(one)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(guarded()) as running:
        yield running


@pytest.mark.parametrize("path", DOCUMENT["paths"])
def test_other_methods_are_refused_with_those_that_are_allowed(server: Served, path: str) -> None:
    """405 and `Allow`, as the document says, with a problem as its body."""
    url = f"http://127.0.0.1:{server.port}" + re.sub(r"\{\w+\}", "a", path)
    told = {method.upper() for method in DOCUMENT["paths"][path]} - {"PARAMETERS"}
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} - told - {"HEAD"}:
        answer = httpx.request(method, url, timeout=10)
        assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")
        assert {one.strip() for one in answer.headers["allow"].split(",")} - {"HEAD"} == told - {"HEAD"}
        schema("Problem").validate(answer.json())


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OPERATIONS: list[Any] = [found.ok() for found in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()]  # type: ignore[union-attr]
ASKED = [
    pytest.param(operation, mode, id=f"{operation.definition.raw['operationId']}-{mode.value}")
    for operation in OPERATIONS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or list(operation.iter_parameters()) or operation.body
]
"""Where nothing is to be given, nothing can be wrong."""
fuzzing = settings(
    deadline=None,
    max_examples=20,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    database=None,
)


@pytest.mark.parametrize(("operation", "mode"), ASKED)
def test_what_the_document_allows_and_what_not_gets_an_answer_of_the_document(
    server: Served, operation: Any, mode: GenerationMode
) -> None:
    """Schemathesis asks as the document says, and against it, with a token and without: no 5xx, nothing untold."""
    with requests.Session() as session:

        @fuzzing
        @given(case=operation.as_strategy(generation_mode=mode), token=st.sampled_from(["good", "bad", ""]))
        def ask(case: Any, token: str) -> None:
            headers = {"Authorization": f"Bearer {token}"} if token else None
            answer = case.call(f"http://127.0.0.1:{server.port}", session, headers=headers, timeout=15)
            case.validate_response(answer, checks=CHECKS)
            assert answer.status_code == 204 or answer.headers["x-content-type-options"] == ["nosniff"]

        ask()
