"""What may be asked of a viewer's positions where Redis may come back with an older state."""

from itertools import pairwise

from stagecast.domain.positions import Position
from tests.sse.browser import Response


def assert_rising_between_resets(viewer: Response) -> None:
    """No token comes twice, but after a `reset`: until its publisher notices, an older state is what there is."""
    lives: list[list[Position]] = [[]]
    for event in viewer.stream.events:
        if event.message["type"] == "reset":
            lives.append([])
        elif event.message["type"] == "token" and event.own_id:  # a snapshot's last message alone has one
            lives[-1].append(Position.parse(event.own_id))
    assert sum(map(len, lives)) > 20
    for positions in lives:
        assert all(before < after for before, after in pairwise(positions))
