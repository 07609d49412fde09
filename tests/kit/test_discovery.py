"""Transports of other packages are found by their scheme; where one cannot be had, the message says whose it is."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stagecast.domain.errors import NotConfigured
from stagecast.entrypoints.wiring import open_bus


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """Installs a distribution with one transport: its name, its entry point, and the text of its module."""

    def install(name: str, point: str, text: str) -> None:
        information = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(f"[stagecast.transports]\n{point}\n")
        (tmp_path / f"{name.replace('-', '_')}.py").write_text(text)

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "owl_post", raising=False)
    return install


@pytest.mark.parametrize(
    ("point", "text", "told"),
    [
        (
            "owl = owl_post:open_owl",
            "raise RuntimeError('no owl')",
            r"^the transport for owl://, owl_post:open_owl of owl-post 1\.0, cannot be loaded: RuntimeError: no owl$",
        ),
        (
            "owl = owl_post:open_owl",
            "import parchment_of_nowhere",
            r"^a owl:// bus needs the package parchment_of_nowhere: .*of owl-post 1\.0$",
        ),
        ("owl = owl_post:open_owl", "", r"owl-post 1\.0, cannot be loaded: AttributeError"),
        ("owl = owl_post:open_owl", "open_owl = 'owl'", r"owl-post 1\.0, is no function that opens a bus"),
    ],
    ids=["raises", "package", "name", "function"],
)
def test_a_broken_entry_point_names_its_distribution(
    installed: Callable[[str, str, str], None], point: str, text: str, told: str
) -> None:
    """Whatever goes wrong when it is loaded is NotConfigured, with the reason."""
    installed("owl-post", point, text)
    with pytest.raises(NotConfigured, match=told):
        open_bus("owl://tower")


def test_a_scheme_that_two_offer_is_neither(installed: Callable[[str, str, str], None]) -> None:
    """Which of them would be a matter of chance."""
    for name in ("owl-post", "owl-express"):
        installed(name, f"owl = {name.replace('-', '_')}:open_owl", "")
    with pytest.raises(NotConfigured, match=r"uninstall all but one: .*owl-(post|express) 1\.0, .*owl-"):
        open_bus("owl://tower")


def test_an_unknown_scheme_is_told_what_there_is(installed: Callable[[str, str, str], None]) -> None:
    """Our schemes with their extras, others' schemes, and how there may be more."""
    installed("owl-post", "owl = owl_post:open_owl", "")
    with pytest.raises(NotConfigured) as raised:
        open_bus("pigeon://roof")
    message = str(raised.value)
    assert message.startswith("no transport for pigeon://; there are ")
    for known in ("memory://,", "redis:// (stagecast[redis])", "owl://", "entry-point group stagecast.transports"):
        assert known in message
