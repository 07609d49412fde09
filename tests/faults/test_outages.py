"""Redis is away for longer than a lease, or comes back with less than it had: who is told what."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from stagecast import RedisStreamPublisher, RedisStreamSubscriber
from stagecast.domain.bus import BusLimits
from tests.faults.scenario import LIMITS, STREAM, Backup, Fault, Scene, Visitor, listened, published, stage_set, write
from tests.faults.writer import Writer
from tests.reading import rebuilt, told
from tests.servers import RedisServer, available_redis_kinds
from tests.sse.browser import Response, project_path, request, stage_path
from tests.sse.eventstream import Message
from tests.waiting import eventually

SHORT = BusLimits(lease=2)
ENDS = "done", "error", "stream_end"


async def nothing(_: Scene) -> None:
    """The tests of this module break the scene themselves."""


class Audience:
    """Viewers of the stage who watch to its end: by HTTP, by HTTP with pauses, and in Python."""

    def __init__(self, scene: Scene, port: int, bus: Any) -> None:
        self._scene, self._port, self._bus = scene, port, bus
        self.tasks: list[asyncio.Task[list[Message]]] = []

    @asynccontextmanager
    async def seated(self) -> AsyncIterator["Audience"]:
        """From the first token on."""
        path, standing = stage_path(self._scene.project), asyncio.Event()
        async with request(self._port, path) as self._browser:
            begun = await self._browser.until_type("token")
            self.tasks = [
                asyncio.create_task(_until_end(self._browser, begun)),
                asyncio.create_task(Visitor(self._port, path, stay=0.2, times=2).watch(*ENDS)),
                asyncio.create_task(listened(self._scene.project, self._bus, standing)),
            ]
            await asyncio.wait_for(standing.wait(), 20)
            yield self

    async def told_of_a_reset(self) -> None:
        await eventually(lambda: _resets(self._browser.messages), 30)

    async def seen(self) -> list[list[Message]]:
        """What each of them has seen, once all have seen an end."""
        return await asyncio.gather(*self.tasks)


async def _until_end(browser: Response, begun: list[Message]) -> list[Message]:
    return begun + await browser.until_type(*ENDS)


@frozen
class Outage:
    """Redis is away for `seconds`, more than the `lease`."""

    lease: float
    seconds: float
    killed: bool
    """Whether its process is killed, and loads what it has on disk; else it is paused."""

    @property
    def limits(self) -> BusLimits:
        return BusLimits(lease=self.lease)

    def __str__(self) -> str:
        return f"{'killed' if self.killed else 'paused'}-{self.seconds:.0f}s"


@pytest.mark.parametrize("outage", [Outage(15, 20, killed=False), Outage(3, 4, killed=True)], ids=str)
async def test_an_outage_longer_than_a_lease_ends_no_living_run(outage: Outage) -> None:
    """A publisher goes on and ends with `done`, even one that comes back later than those who watch its lease."""
    fault = Fault(nothing, persistence=outage.killed, apart=True)
    async with stage_set(fault, outage.limits) as (scene, bus, port):
        writer = scene.writer
        assert writer is not None
        await writer.begun()
        async with Audience(scene, port, bus).seated() as viewers:
            writer.freeze()
            await asyncio.sleep(min(outage.lease * 0.3, 2.5))  # the lease is seen as the outage will leave it
            async with taken_away(scene.server, outage, writer.thaw):
                writer.freeze()
            await asyncio.sleep(min(outage.lease * 0.4, 5))  # leases are looked at, before the publisher renews
            writer.thaw()
            await scene.goes_on()
            await writer.finish()
            for seen in await viewers.seen():
                assert told(seen)[-1] == "done"
                assert "reset" not in told(seen), "nothing was lost"
                assert rebuilt(seen) == writer.text


async def test_a_publisher_that_dies_in_an_outage_ends_its_run() -> None:
    """Within a lease after Redis is back its viewers are told `error`, and have all that was acknowledged."""
    outage = Outage(2, 3, killed=True)
    fault = Fault(nothing, persistence=True, apart=True)
    async with stage_set(fault, outage.limits) as (scene, bus, port):
        writer = scene.writer
        assert writer is not None
        await writer.begun()
        async with Audience(scene, port, bus).seated() as viewers:
            async with taken_away(scene.server, outage):
                await writer.die()
            for seen in await viewers.seen():
                assert (seen[-1]["type"], seen[-1]["reason"]) == ("error", "lease")
                _assert_is_what_was_acknowledged(rebuilt(seen), writer)


@asynccontextmanager
async def taken_away(
    server: RedisServer, outage: Outage, meanwhile: Callable[[], None] = lambda: None
) -> AsyncIterator[None]:
    """The outage; the block comes at its end."""
    await asyncio.to_thread(server.kill if outage.killed else server.pause)
    meanwhile()
    await asyncio.sleep(outage.seconds)
    yield
    await asyncio.to_thread(server.start if outage.killed else server.resume)


def _assert_is_what_was_acknowledged(text: str, writer: Writer) -> None:
    """At least that, and nothing that the writer has not handed over."""
    assert writer.text.startswith(text)
    assert len(text) >= len("".join(writer.journal[: writer.journal.acknowledged])) > 0


RESTORES = [
    Fault(nothing, kind=available_redis_kinds()[0]),
    Fault(nothing, kind=available_redis_kinds()[-1], persistence=True),
]


@pytest.mark.parametrize("has_run_before", [False, True], ids=["first", "regenerated"])
@pytest.mark.parametrize("fault", RESTORES, ids=str)
async def test_a_living_publisher_mends_a_restore_from_an_older_dump(
    fault: Fault, has_run_before: bool, tmp_path: Path
) -> None:
    """Viewers are told that the log was rewound, and end with the exact text: never with the end of an older run."""
    async with stage_set(fault) as (scene, bus, port):
        backup = Backup(scene.server, tmp_path / "backup")
        if has_run_before:
            await _publish_another_run(scene, bus)
            await backup.take(scene)
        with write(scene.server.url, scene.project, LIMITS) as writer:
            await writer.begun()
            async with Audience(scene, port, bus).seated() as viewers:
                if not has_run_before:
                    await backup.take(scene)
                await evolve(scene, writer=writer).goes_on(100)
                writer.freeze()
                await backup.restore()
                await viewers.told_of_a_reset()
                writer.thaw()
                await writer.finish()
                for seen in await viewers.seen():
                    assert "epoch" in _resets(seen)
                    assert seen[-1]["type"] == "done"
                    assert rebuilt(seen) == writer.text


@pytest.mark.parametrize("has_run_before", [False, True], ids=["first", "regenerated"])
async def test_a_dead_publisher_s_run_after_a_restore_from_an_older_dump(has_run_before: bool, tmp_path: Path) -> None:
    """Nobody can give back what the dump does not have: viewers are told so, and of no success."""
    async with stage_set(Fault(nothing), SHORT) as (scene, bus, port):
        backup = Backup(scene.server, tmp_path / "backup")
        if has_run_before:
            await _publish_another_run(scene, bus)
            await backup.take(scene)
        with write(scene.server.url, scene.project, SHORT) as writer:
            await writer.begun()
            async with Audience(scene, port, bus).seated() as viewers:
                if not has_run_before:
                    await backup.take(scene)
                await evolve(scene, writer=writer).goes_on(100)
                await writer.die()
                await backup.restore()
                for seen in await viewers.seen():
                    assert "done" not in told(seen)
                    assert "epoch" in _resets(seen)
                    reasons = [message["reason"] for message in seen if "reason" in message]
                    # Who comes back after the older state's lease has lapsed finds an end from before what it had seen.
                    assert reasons[-1] == "lost" or (reasons[-1] == "lease" and not has_run_before)
                    assert writer.text.startswith(rebuilt(seen))


async def _publish_another_run(scene: Scene, bus: Any) -> None:
    with RedisStreamPublisher(scene.project, "rewrite", bus=bus) as publisher:
        publisher.publish_token("of another run")
        assert await asyncio.to_thread(publisher.publish_done)


async def test_a_listener_is_told_of_a_lost_run_after_an_older_one(tmp_path: Path) -> None:
    """In Python too, who has seen an older run's end, or comes back with a last id, is not given that end again."""
    async with stage_set(Fault(nothing), SHORT) as (scene, bus, _):
        await asyncio.to_thread(_publish_and_lose, scene, bus, Backup(scene.server, tmp_path / "backup"))


def _publish_and_lose(scene: Scene, bus: Any, backup: Backup) -> None:
    project = scene.project
    with RedisStreamSubscriber(project, "rewrite", bus=bus) as subscriber:
        asyncio.run(_publish_another_run(scene, bus))
        assert told(subscriber.listen(10)) == ["token", "done"]
        asyncio.run(backup.take(scene))
        with RedisStreamPublisher(project, "rewrite", bus=bus) as publisher:
            for _ in range(3):
                publisher.publish_token("lost")
            assert publisher.flush(10)
            for _ in range(4):
                assert subscriber.get_message(10)
            publisher.leave()
        asyncio.run(backup.restore())
        with RedisStreamSubscriber(project, "rewrite", bus=bus, last_id=subscriber.last_id) as returning:
            for each in (subscriber, returning):
                assert _resets(list(each.listen()))[-2:] == ["epoch", "lost"]


@pytest.mark.parametrize("dies", [True, False], ids=["killed", "ended"])
async def test_what_nobody_holds_is_reported_as_lost(dies: bool) -> None:
    """Redis loses a run whose publisher is no more: within a lease its viewers are told `lost`, and their end."""
    async with stage_set(Fault(nothing, apart=True), SHORT) as (scene, bus, port):
        writer = scene.writer
        assert writer is not None
        await writer.begun()
        async with Audience(scene, port, bus).seated() as viewers:
            async with request(port, project_path(scene.project)) as browser:
                await browser.until_type("token")
                seen = browser.stream.last_event_id
            await (writer.die() if dies else writer.leave())
            await asyncio.to_thread(scene.server.kill)
            await asyncio.to_thread(scene.server.start)
            returning = Visitor(port, project_path(scene.project))
            returning.seen = seen
            everybody = [*viewers.tasks, asyncio.create_task(returning.watch("stream_end"))]
            for messages in await asyncio.gather(*everybody):
                assert _resets(messages)[-2:] == ["epoch", "lost"]
                assert not {"done", "error"} & set(told(messages))
        async with request(port, stage_path(scene.project)) as fresh:
            assert (await fresh.next()).message["type"] == "connected"
            with RedisStreamPublisher(scene.project, "rewrite", bus=bus) as publisher:
                publisher.publish_token("anew")
                assert await asyncio.to_thread(publisher.publish_done)
            assert rebuilt(await fresh.until_type(*ENDS)) == "anew"


def _resets(messages: Sequence[Message]) -> list[str]:
    return [message["reason"] for message in messages if message["type"] == "reset"]


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "paused"])
async def test_who_comes_while_redis_is_away(killed: bool) -> None:
    """R46, R135: an EventSource is asked to come back, everybody else is told 503, before the first byte of a stream.

    Who watches what the server knows already is served.
    """
    async with stage_set(Fault(nothing)) as (scene, bus, port), published(scene, bus) as finish:
        known, unknown = stage_path(scene.project), stage_path(f"{scene.project}-other")
        async with request(port, known) as early:
            begun = await early.until_type("token")
            await asyncio.to_thread(scene.server.kill if killed else scene.server.pause)
            try:
                for headers in ({}, {"Last-Event-ID": early.stream.last_event_id}):
                    async with request(port, known, {**STREAM, **headers}) as browser:
                        assert (await browser.next()).message["type"] == "connected"
                async with request(port, unknown, STREAM) as browser:
                    assert browser.status == 200
                    assert browser.headers["content-type"] == "text/event-stream; charset=utf-8"
                    assert await browser.rest() == []
                    assert browser.stream.retry is not None
                async with request(port, unknown) as client:
                    assert client.status == 503
                    assert client.headers["content-type"] == "application/problem+json"
                    assert int(client.headers["retry-after"]) > 0
                    assert (await client.body())["status"] == 503
            finally:
                await asyncio.to_thread(scene.server.start if killed else scene.server.resume)
            text = await finish()
            messages = begun + await early.until_type(*ENDS)
            assert messages[-1]["type"] == "done"
            assert rebuilt(messages) == text
        await eventually(lambda: _is_served(port, unknown), 20)


async def _is_served(port: int, path: str) -> bool:
    async with request(port, path) as response:
        return response.status == 200
