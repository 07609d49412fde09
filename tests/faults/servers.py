"""Server processes that come and go on ports of their own, and a round-robin in front of those that live."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager

from tests.faults.proxy import Proxy
from tests.sse.browser import request
from tests.sse.programs import BIN, Program, running
from tests.waiting import eventually

SECONDS = 60.0
_COMPLAINT = re.compile("ERROR|Traceback|never retrieved|was destroyed|raised exception")

COMMANDS = {
    "serve": [str(BIN / "stagecast"), "serve"],
    "uvicorn": [str(BIN / "uvicorn"), "stagecast.entrypoints.sse:app"],
}


class RoundRobin(Proxy):
    """Hands each connection to the next of several servers, and past those that don't listen."""

    def __init__(self, targets: Sequence[int]) -> None:
        super().__init__(targets[0])
        self._servers = list(targets)

    def _targets(self) -> Sequence[int]:
        self._servers.append(self._servers.pop(0))
        return self._servers


@contextmanager
def serving(kind: str, port: int, bus: str) -> Iterator[Program]:
    """A server of a kind on a port, once it listens; killed at the end if it still runs."""
    with running([*COMMANDS[kind], "--port", str(port)], {"STAGECAST_BUS": bus}) as program:
        assert program.port == port
        yield program


def assert_no_complaint(program: Program, but: str = "HTTP/1.") -> None:
    """The server has reported no error, and Python nothing that nobody cared about, `but` in lines with these words."""
    lines = [line for line in program.output.splitlines() if but not in line]
    wrong = [number for number, line in enumerate(lines) if _COMPLAINT.search(line)]
    assert not wrong, "\n".join(lines[wrong[0] : wrong[0] + 60])


class Inspected:
    """A server process that tells what it holds."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.port = program.port
        self._at_rest: dict[str, int] = {}

    async def census(self) -> dict[str, int]:
        """What it holds now, the connection that asks included."""
        async with request(self.port, "/census") as response:
            found: dict[str, int] = await response.body()
            return found

    async def rests(self) -> None:
        """Wait until nobody watches and nothing changes any more, and remember what it holds then."""

        async def quiet() -> bool:
            before, self._at_rest = self._at_rest, _counts(await self.census())
            return before == self._at_rest and not before["viewers"] + before["channels"]

        await eventually(quiet, SECONDS)

    async def holds_nothing_more(self) -> None:
        """Wait until it holds what it held at rest; its pool may have made its two connections meanwhile."""
        more: dict[str, int] = {}

        async def reached() -> bool:
            now = _counts(await self.census())
            more.update({name: count - self._at_rest[name] for name, count in now.items()})
            return more["files"] <= 2 and not any(count for name, count in more.items() if name != "files")

        try:
            await eventually(reached, SECONDS)
        except AssertionError as error:
            raise AssertionError(f"left behind: {more}\n{self.program.output[-2000:]}") from error


def _counts(census: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in census.items() if name != "memory"}


@asynccontextmanager
async def inspected(bus: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[Inspected]:
    """A server process that tells what it holds, and that has patience with producers which renew no lease."""
    settings = {"STAGECAST_LIMITS_LEASE": "300", **(environment or {})}
    with running([sys.executable, "-m", "tests.faults.inspected", bus], settings) as program:
        server = await asyncio.to_thread(Inspected, program)
        yield server
