"""docs/extending.md shows the example as it is and explains every guarantee; docs/testing-your-app.md runs."""

import re
import textwrap
from pathlib import Path

import pytest

from stagecast.entrypoints.testing.guarantees import guarantees
from tests.citations import cited_in, is_a_test

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
TESTING = (ROOT / "docs" / "testing-your-app.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "transport-sqlite"
SHOWN = {
    "python": ("src/stagecast_sqlite/__init__.py", "tests/test_contract.py"),
    "toml": ("pyproject.toml",),
}


@pytest.mark.parametrize(("language", "code"), re.findall(r"^```(python|toml)\n(.*?)^```$", PAGE, re.M | re.S))
def test_a_block_is_cut_from_the_example(language: str, code: str) -> None:
    """Line by line, whatever the indentation and the blank lines, which a formatter sets by it."""
    sources = [_dense((EXAMPLE / path).read_text(encoding="utf-8")) for path in SHOWN[language]]
    assert any(_dense(code) in source or textwrap.indent(_dense(code), "    ") in source for source in sources)


def _dense(text: str) -> str:
    return re.sub(r"\n\n+", "\n", text)


def test_every_guarantee_has_its_place() -> None:
    """What a failure links to is there, with the guarantee's title."""
    for guarantee in guarantees().values():
        anchor = guarantee.link.partition("#")[2]
        assert f'<a id="{anchor}"></a>\n### {guarantee.number}. {guarantee.title}\n' in PAGE


@pytest.mark.parametrize(
    "page", ["docs/extending.md", "docs/testing-your-app.md", "examples/transport-sqlite/README.md"]
)
def test_links_lead_somewhere(page: str) -> None:
    """Relative links name files that are there, and what is cited is a test."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / page).parent.joinpath(link).exists(), link
    assert all(is_a_test(citation) for citation in cited_in(text))


def test_the_example_is_as_short_as_it_says() -> None:
    """Under two hundred lines, as every transport over a store can be."""
    lines = (EXAMPLE / "src/stagecast_sqlite/__init__.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 200


def test_the_way_to_test_works(pytester: pytest.Pytester) -> None:
    """R123: the tests that the page shows pass, on open streams: in one process, and of a server in a thread."""
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```$", TESTING, re.M | re.S)):
        named = re.match(r"# (\w+)\.py\n", code)
        pytester.makepyfile(**{named[1] if named else f"test_block{number}": code})
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\nfilterwarnings = error")
    done = pytester.runpytest_subprocess("-q", timeout=100)
    done.assert_outcomes(passed=TESTING.count("\ndef test_"))


def test_the_page_shows_what_a_wrong_sequence_is_told_by(pytester: pytest.Pytester) -> None:
    """The message on the page is the one that the recorder raises."""
    (shown,) = re.findall(r"^```text\n(.*?)^```$", TESTING, re.M | re.S)
    pytester.makepyfile("""
        def test_wrong(stagecast_publisher, stagecast_recorder):
            stagecast_publisher.publish_token("one ")
            stagecast_publisher.publish_error("boom")
            stagecast_recorder.assert_sequence("processing", "token", "done")
        """)
    done = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", timeout=100)
    done.stdout.fnmatch_lines([f"E   *{line}" for line in shown.splitlines()], consecutive=True)
