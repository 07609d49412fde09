"""The end of a server: streams end at once, without an end of their topics, whoever asks for it."""

import asyncio
import signal
import threading
from contextlib import AsyncExitStack
from types import FrameType

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.topics import Topic
from stagecast.entrypoints import wiring
from stagecast.entrypoints.sse import create_app
from stagecast.entrypoints.sse.server import Server
from stagecast.entrypoints.sse.shutdown import SignalChain
from stagecast.entrypoints.testing.actors import Producer
from tests.servers import RedisServer
from tests.sse.browser import project_path, request, stage_path
from tests.sse.programs import SERVE, UVICORN, running
from tests.waiting import wait_until

SECONDS = 4.0
"""That a shutdown may take with open streams."""


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize(
    ("command", "environment"),
    [([*SERVE, "--bus", "memory://"], {}), (UVICORN, {"STAGECAST_BUS": "memory://"})],
    ids=["serve", "uvicorn"],
)
async def test_a_signal_ends_all_streams_at_once(
    command: list[str], environment: dict[str, str], signal_: signal.Signals
) -> None:
    """R112: with 20 open streams the process ends in seconds; each is told to come back, at its own time."""
    with running(command, environment) as program:
        async with AsyncExitStack() as stack:
            paths = [stage_path("p") if number % 2 else project_path("p") for number in range(20)]
            browsers = [await stack.enter_async_context(request(program.port, path)) for path in paths]
            for browser in browsers:
                await browser.next()
            program.process.send_signal(signal_)
            for browser in browsers:
                assert await browser.rest() == [], "no stream_end: the topic goes on"
                assert browser.ended
                assert browser.stream.retry is not None
            assert len({browser.stream.retry for browser in browsers}) > 10
        assert await asyncio.to_thread(program.exit_code, SECONDS) in {0, -signal.SIGTERM}
        assert "Application shutdown complete" in program.output
        assert "Traceback" not in program.output


async def test_a_client_that_takes_nothing_does_not_hold_up_the_end(any_redis: RedisServer) -> None:
    """R118: a frozen browser with a full window is left behind after a short while."""
    bus = wiring.open_bus(any_redis.url)
    producer = Producer(Topic("p", "rewrite"))
    with running([*SERVE, "--bus", any_redis.url]) as program:
        async with request(program.port, stage_path("p", query="delta=1"), receive_buffer=4096) as frozen:
            assert frozen.status == 200
            async with request(program.port, stage_path("p", query="delta=1")) as browser:
                await browser.next()
                for _ in range(20):
                    await producer.write(bus, "x" * 500_000)
                    await browser.next()
                program.process.send_signal(signal.SIGTERM)
                await browser.rest()
            assert await asyncio.to_thread(program.exit_code, SECONDS + 2) == -signal.SIGTERM
    await bus.aclose()


async def test_a_server_that_is_told_to_exit_sends_its_viewers_away(shared_bus: MemoryBus, project: str) -> None:
    """R114: in a thread, without any signal, by `should_exit`."""
    told: list[str] = []
    server = Server(create_app(shared_bus), "127.0.0.1", 0, started=told.append)
    thread = threading.Thread(target=server.run)
    thread.start()
    (url,) = await asyncio.to_thread(wait_until, lambda: told)
    async with request(int(url.rstrip("/").rpartition(":")[2]), stage_path(project)) as browser:
        await browser.next()
        server.should_exit = True
        assert await browser.rest() == []
        assert browser.stream.retry is not None
    await asyncio.to_thread(thread.join, SECONDS)
    assert not thread.is_alive()


def test_handlers_are_called_in_the_chain_and_put_back() -> None:
    """Ours first, then the one that was there; afterwards everything is as before."""
    calls: list[str] = []

    def previous(number: int, frame: object) -> None:
        calls.append(f"previous {number}")

    saved = signal.signal(signal.SIGTERM, previous)
    try:
        chain = SignalChain(lambda: calls.append("ours"))
        chain.install()
        chain.install()
        signal.raise_signal(signal.SIGTERM)
        assert calls == ["ours", f"previous {signal.SIGTERM.value}"]
        chain.remove()
        assert signal.getsignal(signal.SIGTERM) is previous
        signal.raise_signal(signal.SIGTERM)
        assert calls[2:] == [f"previous {signal.SIGTERM.value}"]
    finally:
        signal.signal(signal.SIGTERM, saved)


def test_a_handler_that_came_later_keeps_working() -> None:
    """Whoever chained to us may go on to call us: the signal still reaches who was there first."""
    calls: list[str] = []
    saved = signal.signal(signal.SIGTERM, lambda *_: calls.append("first"))
    try:
        chain = SignalChain(lambda: calls.append("ours"))
        chain.install()
        ours = signal.getsignal(signal.SIGTERM)
        assert callable(ours)

        def later(number: int, frame: FrameType | None) -> None:
            calls.append("later")
            ours(number, frame)

        signal.signal(signal.SIGTERM, later)
        chain.remove()
        signal.raise_signal(signal.SIGTERM)
        assert calls == ["later", "ours", "first"]
    finally:
        signal.signal(signal.SIGTERM, saved)


def test_an_ignored_signal_stays_ignored() -> None:
    """A process that goes on keeps its streams."""
    calls: list[str] = []
    saved = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        chain = SignalChain(lambda: calls.append("ours"))
        chain.install()
        signal.raise_signal(signal.SIGTERM)
        chain.remove()
        assert calls == []
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, saved)


def test_only_the_main_thread_installs_handlers() -> None:
    """Elsewhere Python forbids it, and a server in a thread has its own end."""
    before = signal.getsignal(signal.SIGTERM)
    chain = SignalChain(lambda: None)
    thread = threading.Thread(target=chain.install)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
