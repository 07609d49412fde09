"""A viewer who comes from another server, to one that is behind: its feed stands still."""

from contextlib import suppress

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.errors import BusUnavailable
from stagecast.entrypoints.testing.actors import Producer
from tests.sse.eventstream import types
from tests.sse.flaky import FlakyBus
from tests.sse.hubs import hub_on, sit
from tests.sse.seat import Seat
from tests.waiting import eventually


async def test_who_has_seen_more_than_this_process_is_not_shown_less(
    bus: MemoryBus, writer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is behind asks to come back, and shows no older state; later the viewer gets exactly the rest."""
    monkeypatch.setattr("stagecast.entrypoints.sse.admission.CATCH_UP", 0.05)
    flaky = FlakyBus(bus)
    async with hub_on(flaky) as hub, hub_on(bus) as ahead:
        await writer.write(bus, "a")
        await sit(hub)
        flaky.hold()
        await writer.write(bus, "b")
        seen = await sit(ahead)
        assert seen.take()[-1]["full_text"] == "ab"
        with pytest.raises(BusUnavailable):
            await sit(hub, after=seen.last)
        flaky.let_go()
        await writer.write(bus, "c")

        async def back() -> Seat | None:
            with suppress(BusUnavailable):
                return await sit(hub, after=seen.last)
            return None

        seat = await eventually(back)
        assert seat is not None
        messages = await seat.until_text("c")
        assert types(messages) == ["connected", "token"]
        assert messages[-1]["content"] == "c"
