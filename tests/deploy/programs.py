"""Server programs at a given port, as behind a proxy that knows it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.sse.programs import BIN, Program, running


@contextmanager
def serve_at(port: int, bus: str, environment: Mapping[str, str] | None = None) -> Iterator[Program]:
    """`stagecast serve`, listening when the block begins; killed at its end if it still runs."""
    with running([str(BIN / "stagecast"), "serve", "--port", str(port), "--bus", bus], environment) as program:
        assert program.port == port
        yield program
