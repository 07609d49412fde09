"""The regression guard: the bounds that it judges, as a table and a verdict, after the figures that they come from."""

from .bounds import BOUNDS
from .plots import number
from .rows import Rows
from .sections import SECTIONS


def judge(rows: Rows) -> tuple[list[str], bool]:
    """The report's lines, and whether every bound holds. One without a figure does not."""
    lines = []
    for section in SECTIONS:
        if body := section.body(rows):
            lines += [section.title, body.partition("\n\n")[0], ""]
    lines += [f"{row['peer']}: {row['trouble']}" for row in rows if "trouble" in row]
    lines.append(f"{'measured':>10}  {'bound':<14}      what")
    good = True
    for bound in BOUNDS:
        if not bound.is_judged:
            continue
        value = bound.value(rows)
        holds = value is not None and bound.holds(value)
        good &= holds
        shown = "none" if value is None else number(value)
        lines.append(f"{shown:>10}  {bound.limit:<14}  {'ok ' if holds else 'NO '}  {bound.text}")
    return lines, good
