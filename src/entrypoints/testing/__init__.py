"""What authors of transports and users need for their own tests: the contract suite of the port, and fixtures.

* `contract`: the suite, one class to subclass (docs/extending.md).
* `plugin`: pytest loads it by its entry point wherever stagecast is installed; it explains the suite's failures and has
  the fixtures `stagecast_bus`, `stagecast_clock`, `stagecast_publisher`, `stagecast_subscriber`, `stagecast_recorder`
  and `stagecast_harness` (docs/testing-your-app.md).
* `fixtures`: the same under short names, for a conftest.py that asks for them.
"""

import pytest

_THEMES = (
    "closing",
    "faults",
    "leases",
    "live",
    "log",
    "overtaking",
    "processes",
    "publishers",
    "restore",
    "resume",
    "runs",
    "tasks",
    "text",
)

pytest.register_assert_rewrite(f"{__name__}.actors", *(f"{__name__}.contract_{theme}" for theme in _THEMES))
