"""A store that does what engines do wrong is caught by the test of a guarantee that says what is wrong."""

import pytest

from tests.kit.sessions import numbers, run

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    ("store", "number", "options"),
    [
        ("Overwriting", 8, ()),
        ("Unsorted", 1, ("-k", "01")),
        ("Trimming", 2, ("-k", "silence or slow_reader")),
        ("Mixing", 4, ()),
        ("Reviving", 5, ("-k", "05")),
        ("Bare", 12, ("-k", "12_failure")),
        ("Torn", 15, ("--maxfail=1",)),
    ],
)
def test_a_broken_store_is_caught(pytester: pytest.Pytester, store: str, number: int, options: tuple[str, ...]) -> None:
    """Nothing is compared, pages are not sorted, the log is too short, moments are mixed, old texts are kept."""
    assert numbers(run(pytester, "stores.py", f"Test{store}", *options)) == {number}


def test_a_store_that_does_nothing_wrong_passes(pytester: pytest.Pytester) -> None:
    """The same tests, on the store that the broken ones were made of."""
    chosen = "01 or 02 or 03 or 04 or 08_runs or 10 or 12"
    assert run(pytester, "stores.py", "TestHealthyStore", "-k", chosen).ret == pytest.ExitCode.OK
