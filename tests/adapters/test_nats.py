"""What the NATS adapter makes of JetStream: what it keeps there, and what it removes."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stagecast.adapters.nats.store import key_of
from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import BusUnavailable
from stagecast.domain.events import ItemCompleted
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic
from stagecast.entrypoints.testing.actors import Producer, reading, state
from stagecast.entrypoints.testing.backend import eventually, opened
from tests.adapters.jetstream import change, has, kept, store_of, version_of
from tests.contract.test_nats import ServerBackend
from tests.servers import NatsServer, start_nats

LIMITS = BusLimits(lease=2.0)
TIME_TO_LIVE = 1.0


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    with start_nats() as server:
        yield server


@pytest.fixture
async def backend(server: NatsServer) -> ServerBackend:
    backend = ServerBackend(server)
    await backend.lose_everything()
    return backend


async def test_one_of_two_changes_of_one_head_is_written(backend: ServerBackend) -> None:
    """Of changes that were made from the same head, or from none, all but one are refused."""
    async with store_of(backend.server) as one, store_of(backend.server) as two:
        for n in range(3):
            versions = [await version_of(store) for store in (one, two) * 5]
            changes = [
                store.commit(change(version, n=n)) for store, version in zip((one, two) * 5, versions, strict=True)
            ]
            assert sorted(await asyncio.gather(*changes)) == [False] * 9 + [True]
            assert await one.log("project", None, 9) == [(Position(1, k), "stage", b"event") for k in range(n + 1)]


async def test_a_version_is_no_other_streams(backend: ServerBackend) -> None:
    """A change that was made before the stream was deleted is refused, though the new one counts alike."""
    async with store_of(backend.server) as one, store_of(backend.server) as two:
        assert await one.commit(change(0))
        version = await version_of(one)
        await backend.lose_everything()
        assert await two.commit(change(0, head=b"another"))
        assert not await one.commit(change(version, n=1))
        head = await one.head("project")
        assert head is not None
        assert head.data == b"another"


async def test_a_version_is_not_one_of_a_rewound_server(backend: ServerBackend, tmp_path: Path) -> None:
    """A change that was made before the server went back to an older state is refused, though sequences are alike."""
    async with store_of(backend.server) as one, store_of(backend.server) as two:
        assert await one.commit(change(0))
        await asyncio.to_thread(backend.server.copy_store, tmp_path / "copy")
        assert await one.commit(change(await version_of(one), n=1))
        version = await version_of(one)
        await asyncio.to_thread(backend.server.replace_store, tmp_path / "copy")
        assert await two.commit(change(await version_of(two), head=b"another", n=1))

        async def refused() -> bool:
            try:
                return not await one.commit(change(version, n=2))
            except BusUnavailable:  # the connection that is lost
                return False

        await eventually(refused)
        head = await one.head("project")
        assert head is not None
        assert head.data == b"another"


async def test_odd_project_ids_stay_apart(backend: ServerBackend) -> None:
    """Dots, wildcards of NATS, other scripts and long ids each name a project of their own."""
    names = [
        "a",
        "a.b",
        ".a",
        "a..b",
        ">",
        "a.>",
        "文档",
        "é",
        "e\u0301",
        "=",
        "-",
        "_",
        "~",
        "$JS.API",
        "x" * 128,
        "文" * 128,
    ]
    async with opened(backend, LIMITS) as bus, opened(backend, LIMITS) as watching:
        assert len({key_of(name) for name in names}) == len(names)
        for name in names:
            async with reading(watching, Topic(name)) as reader:
                await reader.until_count(1)
                producer = Producer(Topic(name, "stage"))
                await producer.write(bus, f"text of {name}")
                await reader.until_at(producer.acknowledged)
                assert [one.event.project for one in reader.published] == [name] * 2
        for name in names:
            assert (await state(bus, Topic(name, "stage"))).text == f"text of {name}"


async def test_a_server_of_small_messages(tmp_path: Path) -> None:
    """Events, texts and states that no message of the server holds are split, and come back whole."""
    (tmp_path / "server.conf").write_text("max_payload: 16384")
    with start_nats(extra_args=["--config", str(tmp_path / "server.conf")]) as server:
        backend = ServerBackend(server)
        async with opened(backend, LIMITS) as bus, opened(backend, LIMITS) as fresh, reading(fresh) as reader:
            producer = Producer()
            text = "文" * 200_000
            await producer.send(bus, producer.token(text, 0, snapshot=True))
            producer.length = 200_000
            for number in range(0, 400, 50):
                await producer.send(bus, *(producer.item(n, "x" * 200) for n in range(number, number + 50)))
                await producer.write(bus, "y" * 30_000)
            await reader.until_at(producer.acknowledged)
            assert not reader.resets
            known = await state(fresh)
            assert reader.text == known.text == text + "y" * 240_000
            assert len(known.slots) == 400
            async with reading(bus, after=Position(producer.acknowledged.epoch, 0)) as back:  # type: ignore[union-attr]
                await back.until_at(producer.acknowledged)
            assert not back.resets
            assert len(back.events(ItemCompleted)) == 400
            # A head is kept once, and what the last changes added is in few pieces.
            await eventually(lambda: has(server, head=40, body=40))


async def test_what_is_kept_of_many_changes(backend: ServerBackend) -> None:
    """After thousands of changes and renewals a project is some messages, and all of its log and text is there."""
    async with opened(backend, LIMITS) as bus, opened(backend, LIMITS) as fresh:
        producer = Producer()
        for number in range(1000):
            await producer.write(bus, f"{number} ", "and ")
        for _ in range(50):
            await producer.send(bus)
        expected = "".join(f"{number} and " for number in range(1000))
        assert (await state(fresh)).text == expected
        async with reading(fresh, after=Position(producer.acknowledged.epoch, 0)) as back:  # type: ignore[union-attr]
            await back.until_at(producer.acknowledged)
        assert (back.resets, "".join(back.contents())) == ([], expected)
        await eventually(lambda: has(backend.server, log=140, archive=8, text=4))


async def test_a_log_is_trimmed(backend: ServerBackend) -> None:
    """What the log need not keep goes, in the stream too; what it must keep stays."""
    limits = BusLimits(log_length=100)
    async with opened(backend, limits) as bus:
        producer = Producer()
        for number in range(600):
            await producer.send(bus, *(producer.update(f"{number}.{n} " * 20) for n in range(10)))
        end = producer.acknowledged
        assert end is not None
        async with reading(bus, after=Position(end.epoch, end.n - 100)) as back:
            await back.until_at(end)
        assert (back.resets, len(back.published)) == ([], 100)
        async with reading(bus, after=Position(end.epoch, 100)) as back:
            await back.until_count(1)
        assert back.resets == ["truncated"]
        await eventually(lambda: has(backend.server, log=140, archive=8))


async def test_a_text_outlives_the_age_of_messages(backend: ServerBackend) -> None:
    """A project that is renewed keeps text and log, though the stream drops what is older than two times to live."""
    async with opened(backend, BusLimits(time_to_live=TIME_TO_LIVE)) as bus:
        producer = Producer()
        pieces = [f"{number} " * 1000 for number in range(100)]
        for piece in pieces:
            await producer.write(bus, piece)
        end = producer.acknowledged
        assert end is not None
        assert (await kept(backend.server))["text"] >= 2
        until = time.monotonic() + 4 * TIME_TO_LIVE

        async def renewed() -> bool:
            assert (await producer.send(bus)).need is None
            return time.monotonic() > until

        await eventually(renewed)
        assert (await state(bus)).text == "".join(pieces)
        async with reading(bus, after=Position(end.epoch, 0)) as back:
            await back.until_at(end)
        assert (back.resets, back.contents()) == ([], pieces)


async def test_renewals_replace_one_another(backend: ServerBackend) -> None:
    """However often a project is renewed, the stream keeps one of the renewals, or two."""
    async with opened(backend, LIMITS) as bus:
        producer = Producer()
        await producer.write(bus, "text")
        for _ in range(50):
            await producer.send(bus)
        await eventually(lambda: has(backend.server, log=3))
        assert (await state(bus)).text == "text"
