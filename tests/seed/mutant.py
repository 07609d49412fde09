"""What is taken away of one promise of docs/seed-contract.md, so that the test which proves it is seen to fail."""

from attrs import frozen


@frozen
class Mutant:
    """A removal: in the file at `path`, `old`, which stands there once, becomes `new`."""

    row: str
    """The row's first cell, or its beginning."""
    path: str
    """Below the repository's root."""
    old: str
    new: str
    test: str | None = None
    """The test of the row that has to fail; the first one where there is none."""
