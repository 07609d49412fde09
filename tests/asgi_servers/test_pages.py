"""docs/asgi-servers.md and docs/testing-your-app.md: what they show runs, and is what the tests run."""

import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from tests.asgi_servers.launching import APP, APPS, COMMANDS

DOCS = Path(__file__).parents[2] / "docs"
SERVERS = (DOCS / "asgi-servers.md").read_text(encoding="utf-8")
TESTING = (DOCS / "testing-your-app.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", re.findall(r"^```python\n(.*?)^```$", TESTING, re.MULTILINE | re.DOTALL))
def test_the_way_to_test_works(code: str) -> None:
    """R123: the tests that the page shows pass: on a bounded stream, and on open ones of a server in a thread."""
    names: dict[str, Any] = {}
    exec(code, names)
    tests = [one for name, one in names.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        if inspect.iscoroutinefunction(test):
            asyncio.run(asyncio.wait_for(test(), 30))
        else:
            test()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_commands_are_those_that_are_tested(name: str) -> None:
    """Each server's command on the page has the words of the one that the tests start, but for the port."""
    (shown,) = re.findall(rf"\| `({name} [^`]*)` \|", SERVERS)
    _, *tested = COMMANDS[name](APPS.get(name, APP), 8000)
    for word in tested:
        if not (name == "uvicorn" and word in {"--port", "8000"}):  # its default
            assert word in shown.replace("'", "").split()


@pytest.mark.parametrize("page", [SERVERS, TESTING], ids=["servers", "testing"])
def test_links_lead_somewhere(page: str) -> None:
    """Relative links name files that are there."""
    for link in re.findall(r"\]\(([^)#]+)", page):
        assert (DOCS / link).exists(), link
