"""docs/security.md and SECURITY.md: settings and defaults are the real ones, the blocks run, links lead somewhere."""

import math
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stagecast.adapters.jwt import JwtAccessPolicy
from stagecast.domain.access import AccessRequest
from stagecast.entrypoints import configuration
from stagecast.entrypoints.configuration import Configuration
from tests.security.browsing import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
ROWS = re.findall(r"^\| (`[\w.]+`(?:, `[\w.]+`)*) \| (.*?) \| .* \|$", PAGE, re.MULTILINE)


def shown(value: object) -> str:
    """A default as the page writes it."""
    if isinstance(value, frozenset):
        return ", ".join(sorted(value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)


@pytest.mark.parametrize(("names", "defaults"), ROWS, ids=lambda text: text.split(",")[0].strip("`"))
def test_a_setting_and_its_default_are_what_they_are(names: str, defaults: str) -> None:
    """A setting that is renamed, or gets another default, has to be looked at here."""
    paths = re.findall(r"`([\w.]+)`", names)
    assert set(paths) <= set(configuration.TYPES)
    real = []
    for path in paths:
        value: object = Configuration()
        for part in path.split("."):
            value = getattr(value, part)
        real.append(shown(value))
    said = re.findall(r"`([^`]+)`", defaults)
    if defaults == "none" or defaults.startswith("derived"):
        assert set(real) == {""}
    else:
        assert said == real


def test_all_that_protects_is_on_the_page() -> None:
    """No setting of access, tokens and CORS is missing, but for those that only say how."""
    named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", PAGE))
    guards = {path for path in configuration.TYPES if path.startswith(("access.", "jwt.", "cors."))}
    assert guards - named == {"cors.max_age"}


def test_the_shell_block_is_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable is a setting's, and together they can be used."""
    script = BLOCKS["sh"] + "\nenv"
    old = {"PATH": "/usr/bin:/bin", "STAGECAST_JWT_SECRET": "former"}
    run = subprocess.run(["bash", "-euc", script], env=old, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    names = [word.partition("=")[0] for word in shlex.split(BLOCKS["sh"].replace("\n", " ")) if word != "export"]
    assert set(names) <= {configuration.variable_of(path) for path in configuration.TYPES}
    for line in run.stdout.splitlines():
        name, _, value = line.partition("=")
        if name in names:
            monkeypatch.setenv(name, value)
    loaded = configuration.current()
    assert (loaded.jwt.audience, loaded.cors.credentials, len(loaded.jwt.secret)) == ("stagecast", True, 64)
    assert loaded.jwt.former_secrets == {"former"}


async def test_the_python_block_signs_what_is_taken() -> None:
    """The token reads its project, by the settings that stand beside it."""
    names: dict[str, Any] = {}
    exec(compile(BLOCKS["python"], "security.md", "exec"), names)
    secret = "s" * 32
    policy = JwtAccessPolicy(secret, issuer="https://login.example", audience="stagecast")
    wish = AccessRequest(project="123", stage=None, token=names["token_for"]("ann", "123", secret))
    assert (await policy.authorize(wish)).principal == "ann"


def test_every_block_is_taken() -> None:
    """A new one fails here."""
    assert set(BLOCKS) == {"sh", "python"}
    assert len(re.findall(r"^```\w+$", PAGE, re.MULTILINE)) == len(BLOCKS)


@pytest.mark.parametrize("page", [ROOT / "docs" / "security.md", ROOT / "SECURITY.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """To files that are there, and to headings."""
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
        assert not anchor or anchor in slugs, link
