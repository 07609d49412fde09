"""A TCP proxy that breaks connections in the ways a network does: late, cut, half-open, or silent."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from attrs import define

T = TypeVar("T")

CHUNK = 1 << 14
SECONDS = 10.0


@define(eq=False)
class Pair:
    """A client's connection, and the one that was made to the server for it; None where none was."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    is_dead: bool = False
    """Nothing is forwarded any more, whatever happens to the proxy; the client is not told."""


class Proxy:
    """Listens on a free port of 127.0.0.1 and forwards to another one; has a thread and an event loop of its own.

    Its methods may be called from any thread; on return the fault is there.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.connections = 0
        """Accepted since the start."""
        self.silenced = 0
        """Accepted since the start and never answered."""
        self.held = 0
        """Pieces of data that a black hole has held, if only for a while."""
        self.bytes_up = 0
        """Forwarded to the server."""
        self.bytes_down = 0
        self.delay_up = 0.0
        """Seconds that each piece of data waits on its way to the server."""
        self.delay_down = 0.0
        self._answers = True
        self._pairs: set[Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def open(self) -> int:
        """How many clients are connected now."""
        return len(self._pairs)

    def cut(self, *, reset: bool = True) -> int:
        """Cut all connections on both sides, by RST or by FIN; how many there were. New ones are served."""
        return self._call(lambda: self._cut(reset=reset))

    def half_open(self) -> None:
        """The server's ends are closed and the clients are not told, ever; new connections get no answer."""
        self._call(self._half_open)

    def black_hole(self) -> None:
        """Nothing passes, in either direction, until `heal`; new connections never get an answer."""
        self._call(self._black_hole)

    def heal(self) -> None:
        """Forward again: what a black hole held goes on its way. What was silenced for good stays silent."""
        self._call(self._heal)

    def __enter__(self) -> Self:
        self._gate = asyncio.Event()
        self._gate.set()
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accept, "127.0.0.1", 0, limit=CHUNK))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    def _call(self, change: Callable[[], T]) -> T:
        async def called() -> T:
            return change()

        return self._run(called())

    def _cut(self, *, reset: bool) -> int:
        pairs = list(self._pairs)
        for pair in pairs:
            for end in (pair.client, pair.server):
                if end is not None:
                    _end(end, reset=reset)
        return len(pairs)

    def _half_open(self) -> None:
        self._answers = False
        for pair in self._pairs:
            pair.is_dead = True
            if pair.server is not None:
                _end(pair.server, reset=False)

    def _black_hole(self) -> None:
        self._answers = False
        self._gate.clear()

    def _heal(self) -> None:
        self._answers = True
        self._gate.set()

    async def _close(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._cut(reset=True)
        await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = Pair(writer)
        self._pairs.add(pair)
        try:
            if not self._answers:
                self.silenced += 1
                pair.is_dead = True
                await self._forward(pair, reader, None)
                return
            from_server, pair.server = await self._reach(self._targets())
            down = self._loop.create_task(self._forward(pair, from_server, writer))
            try:
                await self._forward(pair, reader, pair.server)
                _end(pair.server, reset=False)
                if not pair.is_dead:
                    await down
            finally:
                down.cancel()
        except OSError:
            pass  # one side is gone, and then the other side is told
        finally:
            self._pairs.discard(pair)
            _end(writer, reset=False)
            if pair.server is not None:
                _end(pair.server, reset=False)

    def _targets(self) -> Sequence[int]:
        """The ports to try for the next connection, in this order."""
        return [self.target]

    async def _reach(self, ports: Sequence[int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the first that listens. Raises OSError where none does."""
        for port in ports:
            with socket.socket() as made:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK)  # a black hole must not hold megabytes
                made.setblocking(False)
                with suppress(ConnectionRefusedError):
                    await self._loop.sock_connect(made, ("127.0.0.1", port))
                    return await asyncio.open_connection(sock=made.dup(), limit=CHUNK)
        raise ConnectionRefusedError(f"nobody listens on {ports}")

    async def _forward(self, pair: Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
        """Forward until the reader's end. `writer` None: swallow."""
        is_up = writer is not pair.client
        try:
            while data := await reader.read(CHUNK):
                self.held += not self._gate.is_set()
                await self._gate.wait()
                if delay := self.delay_up if is_up else self.delay_down:
                    await asyncio.sleep(delay)
                if pair.is_dead or writer is None:
                    continue
                writer.write(data)
                await writer.drain()
                if is_up:
                    self.bytes_up += len(data)
                else:
                    self.bytes_down += len(data)
            await self._gate.wait()
        except OSError:
            pass
        if not is_up and not pair.is_dead:
            _end(pair.client, reset=False)


def _end(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if not reset:
        writer.close()
        return
    if not writer.transport.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
