"""What a viewer who stops reading does to the others: their delays with it and without, in turn."""

import socket
from pathlib import Path

from benchmarks.context import Context, crowd_of
from benchmarks.delivering import deliver
from benchmarks.peers.sources import Order
from benchmarks.servers import Setting

PADDING = 500
FILLING = 400
"""Tokens that fill the stalled viewer's buffers before the window begins."""


async def run(context: Context) -> None:
    plan = context.plan
    for repetition, peer in context.turns("stalled", context.chosen("stagecast"), plan.rounds):
        with context.catching("stalled", peer):
            async with crowd_of(peer) as (setting, crowd):
                await crowd.connect(plan.stall_viewers, ["all"], setting.path)
                await setting.warm(crowd, ["all"])
                await deliver(setting, crowd, Order(["all"], FILLING, padding=PADDING))
                count = max(int(plan.stall_rate * plan.stall_seconds), 1)
                order = Order(["all"], count, plan.stall_rate, padding=PADDING)
                alone = await deliver(setting, crowd, order)
                with _stalled_viewer(setting) as viewer:
                    await deliver(setting, crowd, Order(["all"], FILLING, padding=PADDING))
                    stalled = await deliver(setting, crowd, order)
                    waiting = _unsent(setting.port, viewer.getsockname()[1])
                again = await deliver(setting, crowd, order)
                context.add(
                    "stalled",
                    peer.key,
                    repetition,
                    p99_without=(alone["p99"] + again["p99"]) / 2,
                    p99_with=stalled["p99"],
                    p50_without=(alone["p50"] + again["p50"]) / 2,
                    p50_with=stalled["p50"],
                    lost=alone["lost"] + stalled["lost"] + again["lost"],
                    unsent_bytes=waiting,
                )


def _stalled_viewer(setting: Setting) -> socket.socket:
    """Asks for the stream and never reads."""
    viewer = socket.socket()
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    viewer.connect(("127.0.0.1", setting.port))
    viewer.sendall(f"GET {setting.path('all')} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return viewer


def _unsent(server_port: int, viewer_port: int) -> int:
    """Bytes that the kernel could not get rid of on the server's side of the connection."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        row = line.split()
        ports = [int(one.rpartition(":")[2], 16) for one in row[1:3]]
        if ports == [server_port, viewer_port]:
            return int(row[4].partition(":")[0], 16)
    return 0
