"""Each field report is a test that names its id, or a line of FIELD-REPORTS.md that says why not."""

import ast
import re
from pathlib import Path

import pytest

THEMES = {
    "A": "R02 R03 R06 R07 R08 R09",
    "B": "R10 R11 R13 R14 R15 R16 R17 R18 R19 R21",
    "C": "R23 R25 R26 R29 R30",
    "D": "R32 R34 R36 R37 R38 R39 R41",
    "E": "R43 R45 R46 R48 R49 R50 R51 R53",
    "F": "R56 R57 R58 R59 R61 R62 R63",
    "G": "R65 R67 R68 R69 R72 R73 R74 R75",
    "H": "R77 R79 R80 R81 R82 R84",
    "I": "R87 R88 R90 R91 R92 R93 R94",
    "J": "R96 R97 R99 R100 R102 R103 R105 R107 R109 R110",
    "K": "R112 R113 R114 R115 R117 R118 R119 R121 R123",
    "L": "R124 R125 R127 R128 R129 R131 R132 R134 R135 R137",
    "M": "R138 R140 R141 R145",
    "N": "R147 R148 R150 R151",
}
HERE = Path(__file__).parent
ID = re.compile(r"\bR\d{2,3}\b")


def covered() -> set[str]:
    """The ids that docstrings of tests name."""
    found: set[str] = set()
    for path in HERE.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found.update(ID.findall(ast.get_docstring(node) or ""))
    return found


def reasoned() -> set[str]:
    """The ids that have a line with a reason."""
    lines = (HERE / "FIELD-REPORTS.md").read_text().splitlines()
    return {match[1] for line in lines if (match := re.fullmatch(r"\| (R\d{2,3}) \| .{20,} \|", line))}


@pytest.mark.parametrize("theme", THEMES)
def test_every_report_of_a_theme_is_covered(theme: str) -> None:
    """No id of the theme lacks both a test and a reason."""
    assert set(THEMES[theme].split()) - covered() - reasoned() == set()


def test_few_reports_have_only_a_reason() -> None:
    """At most one report in five has a reason instead of a test, and none has both."""
    ids = set(" ".join(THEMES.values()).split())
    assert len((reasoned() - covered()) & ids) <= len(ids) / 5
    assert reasoned() & covered() == set()
