"""Publishers that go on writing while something else is broken, and what they wrote."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from attrs import define, field

from stagecast import RedisStreamPublisher
from stagecast.domain.bus import MessageBus
from tests.waiting import eventually

SECONDS = 30.0


@define(eq=False)
class Writing:
    """One stage of each of several projects, a token at a time."""

    publishers: dict[str, RedisStreamPublisher]
    pause: float
    count: int = 0
    """Tokens that each was given so far."""
    _begun: asyncio.Event = field(factory=asyncio.Event, init=False)
    _is_over: bool = field(default=False, init=False)

    def text(self, project: str) -> str:
        return self.publishers[project].text

    async def goes_on(self, count: int = 5) -> None:
        """Wait until each has written `count` more tokens; the first call begins."""
        self._begun.set()
        target = self.count + count
        await eventually(lambda: self.count >= target, SECONDS)

    async def run(self) -> None:
        await self._begun.wait()
        while not self._is_over:
            for publisher in self.publishers.values():
                assert publisher.publish_token(f"{self.count}字😀 ")
            self.count += 1
            await asyncio.sleep(self.pause)

    async def end(self) -> None:
        """End each stage, then its project."""
        self._is_over = True
        for publisher in self.publishers.values():
            assert await asyncio.to_thread(publisher.publish_done)
            assert await asyncio.to_thread(publisher.publish_pipeline_done)


@asynccontextmanager
async def writing(bus: str | MessageBus, projects: Sequence[str], pause: float = 0.01) -> AsyncIterator[Writing]:
    """Publishers of stages that have begun, and that write once they are asked to go on; ended after the block."""
    with_each = {}
    async with AsyncExitStack() as stack:
        for project in projects:
            publisher = RedisStreamPublisher(project, "rewrite", bus=bus, timeout=SECONDS)
            with_each[project] = stack.enter_context(publisher)
            assert publisher.publish_stage_update("processing")
            assert await asyncio.to_thread(publisher.flush)
        made = Writing(with_each, pause)
        running = asyncio.create_task(made.run())
        try:
            yield made
            await made.end()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
