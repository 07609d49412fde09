"""Guarantee 11, processes: publishers and readers in others, and forks. For backends that a URL opens."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stagecast.domain.bus import BusLimits
from stagecast.domain.events import StageFailed
from stagecast.domain.topics import Topic

from .actors import PROJECT, publishing, reading, state
from .backend import ProcessBackend, opened
from .claims import ContractTests, needs

LIMITS = BusLimits()
SHORT_LEASE = BusLimits(lease=1.0)
PROCESSES = 3


class ProcessContract(ContractTests):
    """Other processes. Two of the tests are for a bus that claims none too: then it has none."""

    async def test_11_publishers_in_processes(self, backend: ProcessBackend) -> None:
        """Processes publish at once, and a reader here sees all; without `processes` it sees nothing of theirs."""
        async with opened(backend, LIMITS) as bus, reading(bus, PROJECT) as reader:
            works = [_worker("publish", backend.url, "project", f"stage{n}", "500") for n in range(PROCESSES)]
            answers = await asyncio.gather(*(_answer_of(work) for work in works))
            assert answers == [{"delivered": True}] * PROCESSES
            stages = [Topic("project", f"stage{n}") for n in range(PROCESSES)]
            if bus.capabilities.processes:
                await reader.until(lambda: all(reader.state(stage).ended for stage in stages))
            expected = "".join(f"{n} " for n in range(500)) if bus.capabilities.processes else ""
            for stage in stages:
                assert (await state(bus, stage)).text == expected

    @needs("resume", "processes")
    async def test_11_readers_in_processes(self, backend: ProcessBackend) -> None:
        """A process reads what is published here."""
        expected = "".join(f"{n} " for n in range(300))
        async with opened(backend, LIMITS) as bus:
            async with _worker("read", backend.url, "project", "stage", "60") as reader:
                assert await _line(reader) == {"ready": True}
                async with publishing(bus) as publisher:
                    for n in range(300):
                        publisher.publish_token(f"{n} ")
                    publisher.publish_done()
                answer = await _line(reader)
            assert answer == {"text": expected}

    @needs("resume", "processes")
    async def test_11_publisher_killed_ends_its_run(self, backend: ProcessBackend) -> None:
        """A publisher's process that is killed ends its run by its lease."""
        async with opened(backend, SHORT_LEASE) as bus, reading(bus) as reader:
            async with _worker("die", backend.url, "project", "stage") as dying:
                assert (await _line(dying))["ready"]
                await reader.until(lambda: reader.text == "last words")
                assert not reader.events(StageFailed)
                dying.kill()
                await dying.wait()
            await reader.until_ended()
            assert [event.reason for event in reader.events(StageFailed)] == ["lease"]

    async def test_11_fork_never_shares_a_connection(self, backend: ProcessBackend) -> None:
        """After a fork the parent goes on undisturbed; the child publishes over its own, or is refused."""
        answer = await _answer_of(_worker("fork", backend.url, "forked"))
        async with opened(backend, LIMITS) as bus:
            expected = {"published"} if bus.capabilities.processes else {"NotConfigured"}
        assert answer["child"] in expected
        assert answer["texts"]["parent"] == "before " + "".join(f"{n} " for n in range(50))
        assert answer["texts"].get("child") == ("child" if answer["child"] == "published" else None)


@asynccontextmanager
async def _worker(*arguments: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stagecast.entrypoints.testing.worker", *arguments, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _line(process: Process) -> dict[str, object]:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        line = await process.stdout.readline()
    if not line:
        assert process.stderr is not None
        raise AssertionError((await process.stderr.read()).decode())
    answer: dict[str, object] = json.loads(line)
    return answer


async def _answer_of(worker) -> dict:  # type: ignore[no-untyped-def,type-arg]
    async with worker as process:
        return await _line(process)
