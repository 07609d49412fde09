"""Tickets as a page uses them: asks for one, and opens what it is for."""

import json
from typing import Any

import httpx

from tests.sse.browser import request
from tests.sse.tokens import bearer, token

TICKETS = "/api/v1/sse/tickets"


async def asked(port: int, body: Any, credentials: str | None = None, **headers: str) -> httpx.Response:
    """The answer to who asks for a ticket, with a token for everything if not with another one."""
    shown = token(projects="*") if credentials is None else credentials
    sent = (bearer(shown) if shown else {}) | headers
    async with httpx.AsyncClient(base_url=f"http://localhost:{port}") as client:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await client.post(TICKETS, headers=sent, timeout=20, content=content)


async def given(port: int, project: str, stage: str | None = "rewrite", **claims: Any) -> str:
    """A ticket's URL."""
    body = {"project_id": project, **({} if stage is None else {"stage_name": stage})}
    answer = await asked(port, body, token(**{"projects": [project], **claims}))
    assert answer.status_code == 201, answer.text
    url: str = answer.json()["url"]
    return url


async def status(port: int, path: str, method: str = "GET", **headers: str) -> int:
    async with request(port, path, headers, method=method) as response:
        return response.status
