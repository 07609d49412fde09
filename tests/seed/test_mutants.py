"""The list of removals fits the table and the files; `make mutants` tries them, which takes minutes."""

import re

from tests.seed.mutants import MUTANTS, NOTHING_TO_REMOVE, ROOT, row_of, rows


def test_each_row_can_lose_its_promise() -> None:
    """Every row of the table has a removal, or a reason why there is nothing to remove."""
    with_mutant = {row_of(mutant.row).promise for mutant in MUTANTS}
    without = {row_of(start).promise for start in NOTHING_TO_REMOVE}
    assert not with_mutant & without
    assert {row.promise for row in rows()} == with_mutant | without
    assert all(NOTHING_TO_REMOVE.values())


def test_a_removal_removes_one_thing() -> None:
    """What it takes away stands once in its file."""
    counts = {(one.path, one.old): (ROOT / one.path).read_text("utf-8").count(one.old) for one in MUTANTS}
    assert {where: count for where, count in counts.items() if count != 1} == {}
    assert not [one for one in MUTANTS if one.old == one.new]


def test_a_removal_names_a_test_of_its_row() -> None:
    """The test that has to fail exists."""
    for mutant in MUTANTS:
        file, _, name = row_of(mutant.row).test_for(mutant).partition("::")
        wanted = rf"^ *(async )?def {name.rpartition('::')[2]}\("
        assert re.search(wanted, (ROOT / file).read_text("utf-8"), re.M), (mutant.row, file, name)
