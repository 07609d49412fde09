"""The plugin: it is silent where nobody asks, leaves out what is not claimed and says so, and its fixtures clean up."""

import json
import os

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.entrypoints import wiring
from stagecast.entrypoints.testing.clock import VirtualClock
from stagecast.entrypoints.testing.harness import memory_bus
from stagecast.entrypoints.testing.recorder import Message, Recorder
from tests.kit.sessions import failed, run

pytest_plugins = ["pytester"]


def replayed(*messages: Message) -> Recorder:
    """A recorder that is shown `messages`."""
    left = iter(messages)
    return Recorder(lambda timeout: next(left, None))


@pytest.mark.parametrize("options", [(), ("-p", "no:anyio"), ("-p", "no:stagecast")])
def test_nothing_is_imported_where_nobody_asks(pytester: pytest.Pytester, options: tuple[str, ...]) -> None:
    """A project that has stagecast installed and does not use it pays for the plugin's module alone."""
    pytester.makepyfile("""
        import json, sys
        def test_modules():
            heavy = ("anyio", "attr", "celery", "redis", "starlette")
            print(json.dumps([one for one in sys.modules if one.startswith("stagecast") or one in heavy]))
        """)
    done = pytester.runpytest_subprocess("-q", "-s", "-p", "no:cacheprovider", "-p", "no:schemathesis", *options)
    done.assert_outcomes(passed=1)
    (line,) = [line for line in done.outlines if line.startswith("[")]
    found = {module for module in json.loads(line.removesuffix(".")) if module.startswith("stagecast")}
    ours = {
        "stagecast",
        "stagecast.entrypoints",
        "stagecast.entrypoints.testing",
        "stagecast.entrypoints.testing.plugin",
    }
    assert found == (set() if "no:stagecast" in options else ours)


def test_what_is_not_claimed_is_left_out_and_told(pytester: pytest.Pytester) -> None:
    """A bus without a log is asked what it owes who is there; below the header stands what it was not asked."""
    result = run(pytester, "live.py", "TestLiveBus", "-v")
    assert result.ret == pytest.ExitCode.OK
    outcomes = result.parseoutcomes()
    assert set(outcomes) == {"passed", "deselected"}
    assert outcomes["passed"] > 10
    result.stdout.fnmatch_lines(
        [
            "*collected *",
            "stagecast: * tests left out of live: the bus does not claim `resume`",
            "*::test_01_live_order?live? PASSED*",
        ]
    )


def test_a_log_that_is_claimed_and_missing_fails(pytester: pytest.Pytester) -> None:
    """The same bus, which says that it has one."""
    result = run(pytester, "live.py", "TestBoasting")
    assert failed(result) == ["test_12_live_capabilities_are_what_is_declared"]


def test_without_the_plugin_nothing_is_asked_either(pytester: pytest.Pytester) -> None:
    """Where somebody has switched it off, what is not claimed is skipped with the same words."""
    result = run(pytester, "live.py", "TestLiveBus", "-p", "no:stagecast", "-rs")
    assert "failed" not in result.parseoutcomes()
    result.stdout.fnmatch_lines(["SKIPPED*the bus does not claim `resume`"])


def test_the_bus_stands_in_for_the_shared_one_and_leaves() -> None:
    """Code that names no bus is given it in the block alone, whatever the environment names."""
    before = os.environ.get("STAGECAST_BUS")
    with memory_bus(VirtualClock()) as bus:
        assert isinstance(bus, MemoryBus)
        assert wiring.shared_bus() is wiring.shared_bus("memory://") is bus
    assert os.environ.get("STAGECAST_BUS") == before
    assert wiring.shared_bus("memory://") is not bus


def test_no_two_moments_of_the_clock_are_the_same() -> None:
    """It stands but for what keeps the lives of a log apart, and passes what it is told to."""
    clock = VirtualClock(1_000_000.0)
    moments = [int(clock.time() * 1_000_000) for _ in range(1000)]
    assert len(set(moments)) == 1000
    assert moments == sorted(moments)
    looks = list[float]()
    clock.watched_by(lambda: looks.append(clock.time()))
    clock.advance(2.5)
    assert [round(look - 1_000_000, 1) for look in looks] == [1.0, 2.0, 2.5]


def test_text_is_what_tokens_alone_make() -> None:
    """In both modes: a token that is the whole text, a reset, and a `done` that says otherwise."""
    token = {"type": "token"}
    whole = replayed(
        {**token, "content": "ab", "full_text": "ab"},
        {**token, "content": "c", "full_text": "abc"},
        {"type": "done", "full_text": "other"},
    )
    assert whole.text == "abc"
    delta = replayed(
        {**token, "content": "draft", "offset": 0, "snapshot": True},
        {"type": "reset"},
        {**token, "content": "x", "offset": 0},
        {**token, "content": "y", "offset": 1},
    )
    assert delta.text == "xy"


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        (("token", "done"), r"\+ error"),
        (("token", "error", "done"), "- done"),
        (("token",), r"\+ error"),
        ((), r"\+ token"),
    ],
)
def test_a_sequence_is_exact(expected: tuple[str, ...], told: str) -> None:
    """Another message, a missing one and one too many fail, each with the difference."""
    messages: list[Message] = [{"type": "token", "content": "x"}, {"type": "token", "content": "y"}]
    recorder = replayed(*messages, {"type": "error", "error": "boom"})
    with pytest.raises(AssertionError, match=told):
        recorder.assert_sequence(*expected, timeout=0.1)
    recorder.assert_sequence("token", "error")


def test_the_harness_gives_celery_back_as_it_was(pytester: pytest.Pytester) -> None:
    """After the test the application sends its tasks to a broker again."""
    pytester.makepyfile("""
        from celery import Celery
        app = Celery("app", broker="memory://", set_as_current=False)
        app.conf.stagecast_bus = "redis://localhost:1"

        def test_within(stagecast_harness):
            stagecast_harness.eager(app)
            assert app.conf.task_always_eager
            assert app.conf.stagecast_bus is stagecast_harness.bus

        def test_after():
            assert not app.conf.task_always_eager
            assert app.conf.stagecast_bus == "redis://localhost:1"
        """)
    pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider").assert_outcomes(passed=2)
