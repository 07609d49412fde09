"""A signal reaches the application first and the server a moment later."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from stagecast.entrypoints.sse.shutdown import SignalChain
from tests.waiting import eventually


@pytest.fixture
def calls() -> Iterator[list[str]]:
    """What was called, with a handler of SIGTERM and one of SIGQUIT that a server might have installed."""
    told: list[str] = []
    signals = (signal.SIGTERM, signal.SIGQUIT)
    saved = {one: signal.signal(one, lambda number, _: told.append(signal.Signals(number).name)) for one in signals}
    try:
        yield told
    finally:
        for one, handler in saved.items():
            signal.signal(one, handler)


async def test_the_server_hears_of_it_when_all_streams_have_ended(calls: list[str]) -> None:
    """Daphne would close every connection with what it has still to send."""
    left = [True]
    chain = SignalChain(lambda: calls.append("drain"), lambda: not left)
    chain.install(asyncio.get_running_loop())
    signal.raise_signal(signal.SIGTERM)
    for _ in range(20):
        await asyncio.sleep(0)
    assert calls == ["drain"]
    left.clear()
    await eventually(lambda: calls == ["drain", "SIGTERM"])
    chain.remove()


async def test_the_server_hears_of_it_in_the_end(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes nothing does not keep the signal from the server."""
    monkeypatch.setattr("stagecast.entrypoints.sse.shutdown.LAST_WORDS", 0.05)
    chain = SignalChain(lambda: calls.append("drain"), lambda: False)
    chain.install(asyncio.get_running_loop())
    signal.raise_signal(signal.SIGTERM)
    await eventually(lambda: calls == ["drain", "SIGTERM"])
    chain.remove()


async def test_a_second_signal_is_handed_on_at_once(calls: list[str]) -> None:
    """Who asks twice does not want to wait."""
    chain = SignalChain(lambda: calls.append("drain"), lambda: False)
    chain.install(asyncio.get_running_loop())
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert calls == ["drain", "drain", "SIGTERM"]
    chain.remove()


async def test_a_signal_reaches_its_handler_though_the_chain_was_left(calls: list[str]) -> None:
    """An application that shuts down meanwhile does not turn the signal into sudden death."""
    left = [True]
    chain = SignalChain(lambda: calls.append("drain"), lambda: not left)
    chain.install(asyncio.get_running_loop())
    signal.raise_signal(signal.SIGTERM)
    chain.remove()
    left.clear()
    await eventually(lambda: calls == ["drain", "SIGTERM"])


def test_sigquit_counts_where_somebody_listens_to_it(calls: list[str]) -> None:
    """gunicorn's workers do; everywhere else it stays what ends a process that hangs."""
    chain = SignalChain(lambda: calls.append("drain"))
    chain.install()
    signal.raise_signal(signal.SIGQUIT)
    assert calls == ["drain", "SIGQUIT"]
    chain.remove()
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    chain.install()
    assert signal.getsignal(signal.SIGQUIT) is signal.SIG_DFL
    chain.remove()
