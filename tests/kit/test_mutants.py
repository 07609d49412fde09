"""A bus that breaks one guarantee is caught by the tests of exactly that guarantee, and the report names it."""

import pytest

from stagecast.entrypoints.testing.guarantees import guarantees
from tests.kit.sessions import failed, numbers, run

pytest_plugins = ["pytester"]

SHORTENED = {
    7: ("-k", "not renewed_as_a_whole"),
    13: ("-k", "kept or keeps or presumed_dead or cancel"),
    15: ("--maxfail=1",),
}
"""Tests that wait for leases, and those that are all of one guarantee and each would wait for what does not come."""


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest cuts the lines of its summary."""
    monkeypatch.setenv("COLUMNS", "400")


@pytest.mark.parametrize("number", range(1, 16))
def test_a_broken_guarantee_is_named(pytester: pytest.Pytester, number: int) -> None:
    """Only tests of that guarantee fail; the report tells its number, its text, and where to read on."""
    result = run(pytester, "broken.py", f"TestMutant{number:02}", *SHORTENED.get(number, ()))
    assert numbers(result) == {number}
    broken = guarantees()[number]
    result.stdout.fnmatch_lines_random(
        [
            f"*guarantee {number}: {broken.title}*",
            f"*{broken.text[:60]}*",
            f"*docs/extending.md#guarantee-{number}",
            f"FAILED *guarantee {number}: {broken.title} is broken*",
        ]
    )


def test_each_guarantee_of_the_port_has_a_number() -> None:
    """What the docstring of the port promises is what failures are explained by."""
    assert list(guarantees()) == list(range(1, 16))
    assert all(guarantee.text.startswith(guarantee.title) for guarantee in guarantees().values())


@pytest.mark.parametrize(
    ("name", "test"),
    [
        ("TestOverclaiming", "test_12_persistence_is_what_the_bus_declares"),
        ("TestMisdeclared", "test_12_live_capabilities_are_what_is_declared"),
    ],
)
def test_a_claim_that_is_not_true_fails(pytester: pytest.Pytester, name: str, test: str) -> None:
    """A log that does not outlive its bus, and a class that says of its bus what the bus does not say of itself."""
    assert failed(run(pytester, "broken.py", name)) == [test]


def test_a_bus_that_breaks_none_passes(pytester: pytest.Pytester) -> None:
    """The same tests, on the bus that the broken ones were made of."""
    chosen = "01 or 02 or 03 or 04 or 05 or 06 or 09 or 10 or 12"  # the slow rest is test_memory's
    assert run(pytester, "broken.py", "TestHealthy", "-k", chosen).ret == pytest.ExitCode.OK
