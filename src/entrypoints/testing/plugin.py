"""The pytest plugin, loaded by an entry point wherever stagecast is installed. Imports nothing more until asked.

For classes of contract tests it leaves out what a bus does not claim, says so, and explains failures by the guarantee
that is broken. For everybody else it offers fixtures whose names begin with `stagecast_`, and does nothing.
"""

from collections import Counter
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from stagecast.adapters.memory import MemoryBus
    from stagecast.entrypoints.publishers import RedisStreamPublisher
    from stagecast.entrypoints.subscribers import RedisStreamSubscriber

    from .clock import VirtualClock
    from .harness import Harness
    from .recorder import Recorder

_SPARED = pytest.StashKey[Counter[str]]()
_KEY = "stagecast_spared"
"""Of what xdist's workers tell the controlling process."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SPARED] = Counter()
    config.addinivalue_line(
        "markers", "stagecast(project, stage): what the stagecast_ fixtures of the test publish to and follow"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a bus is not asked."""
    asked, spared = list[pytest.Item](), list[pytest.Item]()
    for item in items:
        tests = _contract_of(item)
        reason = tests.reason_to_spare(item.function) if tests else None  # type: ignore[attr-defined]
        if reason is None:
            asked.append(item)
        else:
            spared.append(item)
            config.stash[_SPARED][f"{tests.name or tests.__name__}: {reason}"] += 1
    if spared:
        items[:] = asked
        config.hook.pytest_deselected(items=spared)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Below the header: what is left out, and why."""
    return _lines(config.stash[_SPARED])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Explain a failure by the guarantee that is broken."""
    report = yield
    if report.failed and _contract_of(item):
        _explain(item, report)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker of xdist: tell the controlling process what was left out."""
    if (told := getattr(session.config, "workeroutput", None)) is not None:
        spared: Counter[str] = session.config.stash[_SPARED]
        told[_KEY] = dict(spared)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Every worker has collected the same."""
    told: Counter[str] = Counter(getattr(node, "workeroutput", {}).get(_KEY, {}))  # empty where it has crashed
    node.config.stash[_SPARED] |= told


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Under xdist, where nothing was collected here: what was left out."""
    if config.pluginmanager.has_plugin("dsession"):
        for line in _lines(config.stash[_SPARED]):
            terminalreporter.write_line(line)


def _lines(spared: "Counter[str]") -> list[str]:
    return [f"stagecast: {count} tests left out of {reason}" for reason, count in sorted(spared.items())]


def _contract_of(item: pytest.Item) -> Any:
    tests = getattr(item, "cls", None)
    return tests if getattr(tests, "stagecast_contract", False) else None


def _explain(item: pytest.Item, report: pytest.TestReport) -> None:
    from .guarantees import guarantee_of

    test = getattr(item, "function", None)
    found = guarantee_of(test.__name__) if test else None
    if test is None or found is None:
        return
    title = f"guarantee {found.number}: {found.title}"
    text = f"{found.text}\nThis test: {test.__doc__}\nWhat to look at: {found.link}"
    report.sections.append((title, text))
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        crash.message = f"{title} is broken: {crash.message}"


def _topic(request: pytest.FixtureRequest) -> tuple[str, str]:
    marker = request.node.get_closest_marker("stagecast")
    named: tuple[str, str] = ("project", "stage") if marker is None else marker.args
    return named


@pytest.fixture
def stagecast_clock() -> "VirtualClock":
    """The time of `stagecast_bus`: it stands until the test advances it."""
    from .clock import VirtualClock

    return VirtualClock()


@pytest.fixture
def stagecast_bus(stagecast_clock: "VirtualClock") -> "Iterator[MemoryBus]":
    """A bus of its own in memory; also what code that names no bus is given while the test runs."""
    from .harness import memory_bus

    with memory_bus(stagecast_clock) as bus:
        yield bus


@pytest.fixture
def stagecast_publisher(stagecast_bus: "MemoryBus", request: pytest.FixtureRequest) -> "Iterator[RedisStreamPublisher]":
    """A publisher of the test's stage, closed at its end."""
    from stagecast.entrypoints.publishers import RedisStreamPublisher

    with RedisStreamPublisher(*_topic(request), bus=stagecast_bus) as publisher:
        yield publisher


@pytest.fixture
def stagecast_subscriber(
    stagecast_bus: "MemoryBus", request: pytest.FixtureRequest
) -> "Iterator[RedisStreamSubscriber]":
    """A subscriber of the test's stage that stands before the test begins."""
    from stagecast.entrypoints.subscribers import RedisStreamSubscriber

    subscriber = RedisStreamSubscriber(*_topic(request), bus=stagecast_bus)
    yield subscriber
    subscriber.close()


@pytest.fixture
def stagecast_recorder(stagecast_bus: "MemoryBus", request: pytest.FixtureRequest) -> "Iterator[Recorder]":
    """What a viewer of the test's stage is shown, from before the test begins, with assertions."""
    from stagecast.entrypoints.subscribers import RedisStreamSubscriber

    from .recorder import Recorder

    subscriber = RedisStreamSubscriber(*_topic(request), bus=stagecast_bus)
    yield Recorder(subscriber.get_message)
    subscriber.close()


@pytest.fixture
def stagecast_harness(stagecast_bus: "MemoryBus") -> "Iterator[Harness]":
    """The whole way in one process without a socket: eager Celery tasks, the SSE application, and viewers of it."""
    from .harness import Harness

    with Harness(stagecast_bus) as harness:
        yield harness
