"""Guarantees 8 and 15: of two runs or attempts that restore after a loss the newer wins, whoever comes first."""

import pytest

from stagecast.domain.bus import BusLimits

from .actors import Producer, reading, shown, state
from .backend import Backend, opened
from .claims import ContractTests


class OvertakingContract(ContractTests):
    """The older has been overtaken, was not told yet, and is back before the newer is."""

    @pytest.mark.parametrize(("run", "task"), [("new", "new"), ("old", "old")], ids=["run", "attempt"])
    async def test_15_restore_lets_the_newer_overtake_again(self, backend: Backend, run: str, task: str) -> None:
        """The older is shown until the newer has come back, then it is fenced as before, and the text is one alone."""
        async with opened(backend, BusLimits()) as bus, reading(bus) as reader:
            old, new = Producer(), Producer()
            await old.open(bus, "old", task="old")
            await old.write(bus, "old")
            await new.open(bus, run, task=task)
            await new.write(bus, "new")
            await reader.until(lambda: reader.text == "new")
            await backend.lose_everything()
            assert (await old.send(bus, old.update())).need == "state"
            await old.send(bus, old.token("old", 0, snapshot=True), old.update())
            await reader.until(lambda: reader.resets and reader.text == "old")
            assert (await new.send(bus, new.update())).need == "state"
            receipt = await new.send(bus, new.token("new", 0, snapshot=True), *new.tokens(" text"))
            assert (receipt.applied, receipt.refused, receipt.superseded) == (2, 0, False)
            assert (await old.send(bus, *old.tokens("!"), old.done())).superseded
            await new.send(bus, new.done())
            await reader.until_ended()
            known = await state(bus)
            assert (known.run, known.text) == (run, "new text")
            assert shown(reader.state()) == shown(known)
