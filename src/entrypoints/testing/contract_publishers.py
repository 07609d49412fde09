"""Guarantee 11: many publishers, in threads with event loops of their own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor

from stagecast.domain.bus import BusLimits
from stagecast.domain.events import ItemCompleted
from stagecast.domain.topics import Topic

from .actors import PROJECT, STAGE, Producer, publishing, reading, shown, snapshot, state
from .backend import PATIENCE, Backend, opened
from .claims import ContractTests

LIMITS = BusLimits()
THREADS = 6


class PublishersContract(ContractTests):
    """Threads, each with an event loop, that publish to and read from one backend."""

    async def test_11_publishers_in_threads(self, backend: Backend) -> None:
        """Threads with event loops of their own publish at once, and a reader of the project sees all in order."""
        async with opened(backend, LIMITS) as bus, reading(bus, PROJECT) as reader:

            async def produce(number: int) -> None:
                async with opened(backend, LIMITS) as own:
                    producer = Producer(Topic("project", f"stage{number}"))
                    for n in range(50):
                        await producer.write(own, f"{n} ")
                    await producer.send(own, producer.done())

            await _in_threads(produce)
            end = (await snapshot(bus, PROJECT)).position
            await reader.until_at(end)
            for number in range(THREADS):
                assert reader.stages[f"stage{number}"].text == "".join(f"{n} " for n in range(50))
            assert len(reader.published) == THREADS * 52

    async def test_11_publishers_of_one_run_in_threads(self, backend: Backend) -> None:
        """Concurrent plain publishers of one stage open one run between them."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            runs = set[str | None]()

            async def produce(number: int) -> None:
                async with opened(backend, LIMITS) as own:
                    producer = Producer()
                    await producer.send(own, producer.update("processing"))
                    for n in range(20):
                        await producer.send(own, producer.item(n, f"kind{number}"))
                    runs.add(producer.run)

            await _in_threads(produce)
            await reader.until(lambda: len(reader.events(ItemCompleted)) == THREADS * 20)
            assert len(runs) == 1
            assert len((await state(bus)).slots) == THREADS * 20 + 1

    async def test_11_readers_in_threads(self, backend: Backend) -> None:
        """Readers in other threads see what this one publishes, and end with the same state."""
        async with opened(backend, LIMITS) as bus:
            ready, states = threading.Barrier(THREADS + 1, timeout=PATIENCE.seconds), list[dict[str, object]]()

            async def read(_: int) -> None:
                async with opened(backend, LIMITS) as own, reading(own) as reader:
                    await asyncio.to_thread(ready.wait)
                    await reader.until_ended()
                    states.append(shown(reader.state()))

            async def produce() -> None:
                await asyncio.to_thread(ready.wait)
                async with publishing(bus) as publisher:
                    for n in range(200):
                        publisher.publish_token(f"{n} ")
                    publisher.publish_done()

            await asyncio.gather(_in_threads(read), produce())
            assert states == [shown(await state(bus))] * THREADS

    async def test_11_publisher_is_called_from_other_threads(self, backend: Backend) -> None:
        """A publisher's methods may be called by any thread while one loop delivers."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            async with publishing(bus) as publisher:

                def call(number: int) -> None:
                    for n in range(100):
                        assert publisher.publish_item_completed(f"kind{number}", n)

                await asyncio.gather(*(asyncio.to_thread(call, number) for number in range(THREADS)))
                assert await publisher.flush(20)
            await reader.until(lambda: len(reader.events(ItemCompleted)) == THREADS * 100)
            for number in range(THREADS):
                numbers = [
                    one.sequence_number for one in reader.events(ItemCompleted) if one.item_type == f"kind{number}"
                ]
                assert numbers == list(range(100))

    async def test_11_handles_are_independent(self, backend: Backend) -> None:
        """What one handle publishes another reads, whichever was opened first."""
        async with opened(backend, LIMITS) as early, opened(backend, LIMITS) as late:
            for writing, other in ((early, late), (late, early)):
                producer = Producer(STAGE)
                await producer.send(writing, producer.token("text", 0), producer.done())
                known = await state(other)
                assert (known.run, known.text) == (producer.run, "text")


async def _in_threads(work: Callable[[int], Coroutine[None, None, None]]) -> None:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(THREADS) as threads:
        await asyncio.gather(*(loop.run_in_executor(threads, asyncio.run, work(number)) for number in range(THREADS)))
