"""What a class of contract tests says of its bus, which tests that lets it off, and how long a test may take."""

import asyncio
import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import pytest

from stagecast.domain.bus import Capabilities

from .backend import PATIENCE

Need: TypeAlias = Literal["resume", "processes", "persistent", "rewind", "outage"]
"""Three that a bus declares by its `Capabilities`, and two that its backend can do for a test."""

T = TypeVar("T")

_NOT_CLAIMED: dict[str, str] = {
    "resume": "the bus does not claim `resume`",
    "processes": "the bus does not claim `processes`",
    "persistent": "the bus does not claim `persistent`",
    "rewind": "`faults` does not name rewind: the backend cannot go back to an older state",
    "outage": "`faults` does not name outage: the backend cannot be away",
}
_LONGEST = 4
"""Times `patience` that one test may take: who waits for what a bus never delivers would wait for ever."""


def needs(*needed: Need) -> Callable[[T], T]:
    """Tests, or a class of them, that are asked only of who has all of `needed`; without this one needs `resume`."""

    def mark(tests: Any) -> Any:
        functions = vars(tests).values() if inspect.isclass(tests) else [tests]
        for function in functions:
            if inspect.isfunction(function) and not hasattr(function, "stagecast_needs"):
                function.stagecast_needs = needed  # type: ignore[attr-defined]
        return tests

    return mark


class ContractTests:
    """What every class of contract tests has. Subclasses set the class variables and override `backend`."""

    stagecast_contract: ClassVar[bool] = True
    """How the pytest plugin knows such a class without importing this module."""
    pytestmark = pytest.mark.anyio

    name: ClassVar[str] = ""
    """Of the bus, in each test's id; the class's name where it is empty."""
    capabilities: ClassVar[Capabilities | None] = None
    """What the bus claims: it must pass the tests of that, and is not asked the others. None: it is asked all."""
    faults: ClassVar[Iterable[str] | None] = None
    """What the backend can do: "rewind" (a `RewindingBackend`), "outage" (a `FlakyBackend`). None: all."""
    patience: ClassVar[float] = 20.0
    """Seconds that a test waits for a condition before it fails; a correct bus needs a fraction."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, test in list(vars(cls).items()):
            if name.startswith("test_") and inspect.iscoroutinefunction(test):
                setattr(cls, name, _bounded(test))

    @classmethod
    def reason_to_spare(cls, test: Callable[..., object]) -> str | None:
        """Why the bus is not asked `test`; None where it is."""
        for need in getattr(test, "stagecast_needs", ("resume",)):
            if need in ("rewind", "outage"):
                lacks = cls.faults is not None and need not in cls.faults
            else:
                lacks = cls.capabilities is not None and not getattr(cls.capabilities, need)
            if lacks:
                return _NOT_CLAIMED[need]
        return None

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Buses are for asyncio."""
        return "asyncio"

    @pytest.fixture(autouse=True)
    def _bus_name(self, request: pytest.FixtureRequest) -> Iterator[None]:
        """Stands in each test's id by its parameter; and lets the helpers know the class's patience."""
        if reason := self.reason_to_spare(request.function):
            pytest.skip(reason)  # where the plugin, which would not have let it come to this, is switched off
        before, PATIENCE.seconds = PATIENCE.seconds, self.patience
        yield
        PATIENCE.seconds = before

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Let each id name the bus."""
        name = self.name or type(self).__name__.removeprefix("Test")
        metafunc.parametrize("_bus_name", [name], indirect=True)


def _bounded(test: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(test)
    async def bounded(self: ContractTests, *arguments: Any, **fixtures: Any) -> None:
        __tracebackhide__ = True
        longest = _LONGEST * self.patience
        limit = asyncio.timeout(longest)
        try:
            async with limit:
                await test(self, *arguments, **fixtures)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise AssertionError(f"not finished within {longest} s: something was never delivered") from error

    return bounded
