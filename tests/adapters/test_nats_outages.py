"""The NATS adapter where something is missing: its server, the stream, a piece of a text, a server of three."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from nats.js.api import RePublish

from stagecast.adapters.nats.bus import open_nats_bus
from stagecast.adapters.nats.store import NatsStore, key_of
from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.topics import Topic
from stagecast.entrypoints.testing.actors import CODEC, Producer, publishing, reading, snapshot, state
from stagecast.entrypoints.testing.backend import eventually, opened
from tests.adapters.jetstream import change, managing, store_of, version_of
from tests.contract.test_nats import ServerBackend
from tests.servers import NatsServer, start_nats, start_nats_cluster

LIMITS = BusLimits(lease=2.0)


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    with start_nats() as server:
        yield server


@pytest.fixture
async def backend(server: NatsServer) -> ServerBackend:
    backend = ServerBackend(server)
    await backend.lose_everything()
    return backend


@pytest.mark.parametrize(("kind", "left"), [("text", 0), ("log", 1)])
async def test_a_project_without_its_text_is_lost(
    backend: ServerBackend, caplog: pytest.LogCaptureFixture, kind: str, left: int
) -> None:
    """Where a piece of a text is gone, readers are reset and who holds the text restores it; nothing is half there."""
    async with opened(backend, LIMITS) as bus, opened(backend, LIMITS) as watching, reading(watching) as reader:
        gone = Producer(Topic("gone", "stage"))
        for _ in range(150):
            await gone.write(bus, "piece " * 200)
        async with publishing(bus) as publisher:
            for _ in range(150):
                publisher.publish_token("piece " * 200)
                assert await publisher.flush(20)
            await reader.until(lambda: reader.text == publisher.text)
            async with managing(backend.server) as manager:
                info = await manager.stream_info("STAGECAST")
                root = (info.config.subjects or [""])[0].removesuffix(">")
                for project in ("gone", "project"):
                    await manager.purge_stream("STAGECAST", subject=f"{root}{kind}.{key_of(project)}", keep=left)
            assert (await snapshot(watching, Topic("gone"))).position is None
            assert (await gone.send(bus)).need == "state"

            async def restored() -> bool:
                return (await state(watching)).text == publisher.text

            await eventually(restored)
            await reader.until(lambda: reader.resets and reader.text == publisher.text)
        assert "a project is lost" in caplog.text


async def test_a_bus_has_one_connection_and_finds_its_server_again(backend: ServerBackend) -> None:
    """After each restart of the server one connection serves publishing and reading again, without a lost event."""
    async with opened(backend, LIMITS) as bus, reading(bus) as reader, reading(bus, Topic("other")) as idle:
        async with publishing(bus) as publisher:
            for number in range(3):
                publisher.publish_token(f"{number} ")
                await reader.until(lambda: reader.text == publisher.text)
                assert await backend.connections() == 1
                await asyncio.to_thread(backend.server.restart)
            publisher.publish_done()
        await reader.until_ended()
        assert not [*reader.resets, *idle.resets]
        assert await backend.connections() == 1


async def test_who_watches_is_told(backend: ServerBackend) -> None:
    """Of each change, by the change itself and not by a look, before and after the server was away."""
    async with store_of(backend.server) as one, store_of(backend.server) as two:
        told = asyncio.Event()
        async with one.watch("project", told.set):
            for n in range(4):
                if n == 2:
                    await asyncio.to_thread(backend.server.restart)
                await eventually(lambda: _reached(one, two))
                told.clear()
                assert await two.commit(change(await version_of(two), n=n))
                async with asyncio.timeout(60):
                    await told.wait()


async def _reached(*stores: NatsStore) -> bool:
    try:
        for store in stores:
            await version_of(store)
    except BusUnavailable:
        return False
    return True


async def test_closing_frees_everything(backend: ServerBackend) -> None:
    """After a bus is closed, in the midst of calls and beside a server that is frozen, nothing of it goes on."""
    before = asyncio.all_tasks()
    for is_frozen in (False, True):
        bus = open_nats_bus(f"{backend.url}?command_timeout=600", CODEC, LIMITS)
        await Producer().write(bus, "text")
        if is_frozen:
            backend.server.pause()
        calls = [asyncio.ensure_future(Producer(Topic(f"p{n}", "s")).write(bus, "text" * 100_000)) for n in range(5)]
        await asyncio.sleep(0)
        await bus.aclose()
        if is_frozen:
            backend.server.resume()
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(answer) for answer in answers} == {BusUnavailable}
        await eventually(lambda: not asyncio.all_tasks() - before)
    assert await backend.connections() == 0


ANNOUNCING = RePublish(src="mine.log.*", dest="stagecast-live.STAGECAST.{{wildcard(1)}}", headers_only=True)


@pytest.mark.parametrize(
    "config",
    [
        {"subjects": ["mine.>"]},
        {"subjects": ["mine.>"], "allow_direct": True},
        {"subjects": ["mine.a", "mine.b"], "allow_direct": True, "republish": ANNOUNCING},
        {"subjects": ["mine.>"], "allow_direct": False, "republish": ANNOUNCING},
    ],
)
async def test_a_stream_of_somebody_else_is_left_alone(backend: ServerBackend, config: dict[str, Any]) -> None:
    """A stream of the same name that stagecast has not made is not written to; another name helps."""
    async with managing(backend.server) as manager:
        await manager.add_stream(name="STAGECAST", **config)
        async with opened(backend, LIMITS) as bus:
            with pytest.raises(BusUnavailable, match="not made by stagecast"):
                await Producer().write(bus, "text")
        assert (await manager.stream_info("STAGECAST")).state.messages == 0
        backend.url += "?stream=MINE"
        bus = open_nats_bus(backend.url, CODEC, LIMITS)
        await Producer().write(bus, "text")
        await bus.aclose()
        await manager.delete_stream("MINE")


async def test_a_server_without_jetstream_is_named() -> None:
    """A server that keeps nothing is told by its type and in words."""
    with start_nats(jetstream=False) as server:
        async with opened(ServerBackend(server), LIMITS) as bus:
            with pytest.raises(BusUnavailable, match="has no JetStream"):
                await state(bus)


async def test_a_cluster_loses_a_server() -> None:
    """Where three servers keep the stream, two go on: no event is lost, none is doubled, and nobody is reset."""
    with start_nats_cluster(3) as servers:
        hosts = ",".join(server.url.removeprefix("nats://") for server in servers)
        url = f"nats://{hosts}?replicas=3&command_timeout=2"
        bus, watching = (open_nats_bus(url, CODEC, BusLimits()) for _ in range(2))

        async def is_there() -> bool:
            try:
                await state(watching)
            except BusUnavailable:  # the cluster has only just met
                return False
            return True

        await eventually(is_there, 60)
        async with reading(watching) as reader:
            async with publishing(bus) as publisher:
                for number in range(100):
                    publisher.publish_token(f"{number} ")
                assert await publisher.flush(60)
                await reader.until(lambda: reader.text == publisher.text)
                async with managing(servers[0]) as manager:
                    leader = (await manager.stream_info("STAGECAST")).cluster.leader  # type: ignore[union-attr]
                next(server for server in servers if server.name == leader).kill()
                for number in range(100, 200):
                    publisher.publish_token(f"{number} ")
                publisher.publish_done()
                assert await publisher.flush(60)
            await reader.until_ended(timeout=60)
            assert not reader.resets
            assert "".join(reader.contents()) == (await state(bus)).text == publisher.text
        for one in (bus, watching):
            await one.aclose()
