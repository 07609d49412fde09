"""What authors of transports and users need for their own tests: the contract suite of the MessageBus port."""

import pytest

_THEMES = (
    "closing",
    "faults",
    "leases",
    "log",
    "processes",
    "publishers",
    "restore",
    "resume",
    "runs",
    "tasks",
    "text",
)

pytest.register_assert_rewrite(f"{__name__}.actors", *(f"{__name__}.contract_{theme}" for theme in _THEMES))
