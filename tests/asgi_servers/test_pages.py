"""docs/asgi-servers.md: what it shows is what the tests run."""

import re
from pathlib import Path

import pytest

from tests.asgi_servers.launching import APP, APPS, COMMANDS

DOCS = Path(__file__).parents[2] / "docs"
SERVERS = (DOCS / "asgi-servers.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_commands_are_those_that_are_tested(name: str) -> None:
    """Each server's command on the page has the words of the one that the tests start, but for the port."""
    (shown,) = re.findall(rf"\| `({name} [^`]*)` \|", SERVERS)
    _, *tested = COMMANDS[name](APPS.get(name, APP), 8000)
    for word in tested:
        if not (name == "uvicorn" and word in {"--port", "8000"}):  # its default
            assert word in shown.replace("'", "").split()


def test_links_lead_somewhere() -> None:
    """Relative links name files that are there."""
    for link in re.findall(r"\]\(([^)#]+)", SERVERS):
        assert (DOCS / link).exists(), link
