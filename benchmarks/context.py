"""What every measure is given: the plan, the peers that are here, and where its rows go."""

import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from attrs import Factory, define

from .load import Crowd
from .peers.table import PEERS, Peer
from .plan import Plan
from .servers import Setting, Trouble, redis_server, running

Row = dict[str, Any]


@define
class Context:
    """One run."""

    plan: Plan
    peers: list[Peer]
    rows: list[Row] = Factory(list)
    began: float = Factory(time.monotonic)

    def chosen(self, *keys: str) -> list[Peer]:
        """Of the peers named (none: of all) those that take part."""
        return [one for one in self.peers if not keys or one.key in keys]

    def tell(self, text: str) -> None:
        """Show progress."""
        print(f"{time.monotonic() - self.began:6.0f} s  {text}", file=sys.stderr, flush=True)

    def turns(self, measure: str, peers: list[Peer], repetitions: int | None = None) -> Iterator[tuple[int, Peer]]:
        """Each peer in turn, again and again, so that a slow minute of the machine hits all of them."""
        for repetition in range(repetitions or self.plan.repetitions):
            for peer in peers:
                self.tell(f"{measure}: {peer.key}, {repetition + 1}")
                yield repetition, peer

    def add(self, measure: str, peer: str, repetition: int, **figures: Any) -> None:
        """Keep a row."""
        self.rows.append({"measure": measure, "peer": peer, "repetition": repetition, **figures})

    @contextmanager
    def catching(self, measure: str, peer: Peer) -> Iterator[None]:
        """What goes wrong with a peer becomes a row, and the run goes on."""
        try:
            yield
        except (Trouble, OSError) as error:
            self.tell(f"{measure}: {peer.key}: {error}")
            self.add(measure, peer.key, -1, trouble=" ".join(f"{type(error).__name__}: {error}".split()))


@asynccontextmanager
async def crowd_of(peer: Peer, processes: int = 1) -> AsyncIterator[tuple[Setting, Crowd]]:
    """The peer with an empty Redis and nobody watching yet."""
    with redis_server() as redis:
        async with (
            running(peer, redis, processes) as setting,
            Crowd("127.0.0.1", *(one.port for one in setting.places), is_greeted=peer.greets) as crowd,
        ):
            yield setting, crowd


def topics_of(count: int, prefix: str = "t") -> list[str]:
    return [f"{prefix}{n}" for n in range(count)]


def peers_here(wanted: tuple[str, ...]) -> tuple[list[Peer], dict[str, list[str]]]:
    """The peers that can run here, and what the others miss."""
    some = [one for one in PEERS.values() if not wanted or one.key in wanted]
    missing = {one.key: one.missing for one in some}
    return [one for one in some if not missing[one.key]], {key: names for key, names in missing.items() if names}
