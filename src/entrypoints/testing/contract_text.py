"""Guarantee 8, the text: it has one writer, and what is stored is exactly what was written."""

import asyncio

from stagecast.domain.bus import BusLimits
from stagecast.domain.events import StageUpdated, TokenEmitted

from .actors import OTHER_STAGE, Producer, reading, state
from .backend import Backend, opened
from .claims import ContractTests

LIMITS = BusLimits()


class TextContract(ContractTests):
    """Who may write a stage's text, and where."""

    async def test_08_text_is_what_its_writer_wrote(self, backend: Backend) -> None:
        """Any text arrives unchanged: line ends, quotes, tabs, CJK, emoji, control characters, separators."""
        pieces = [
            "# 标题\n",
            "\r\n\t",
            '"quoted" \\ ',
            "😀👨‍👩‍👧",
            "\u2028\u2029\x85",
            "\x00\x1f",
            " ",
            "\n",
            "data: x\n\n",
            "e\u0301",
        ]
        async with opened(backend, LIMITS) as writing, opened(backend, LIMITS) as bus, reading(bus) as reader:
            producer = Producer()
            await producer.write(writing, *pieces)
            await reader.until_at(producer.acknowledged)
            assert reader.contents() == pieces
            assert (await state(bus)).text == reader.text == "".join(pieces)

    async def test_08_text_is_continued_by_its_writer_alone(self, backend: Backend) -> None:
        """A token of another producer is refused and told so; the writer's text goes on undisturbed."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            writer, intruder = Producer(), Producer()
            await writer.write(bus, "mine")
            receipt = await intruder.send(bus, intruder.token("theirs", 4), intruder.item(1))
            assert (receipt.applied, receipt.refused, receipt.foreign_text, receipt.need) == (2, 1, True, None)
            assert receipt.run == writer.run
            await writer.write(bus, " and mine")
            await reader.until_at(writer.acknowledged)
            assert reader.text == "mine and mine"
            assert "item:image:1" in reader.state().slots

    async def test_08_text_begun_anew_changes_its_writer(self, backend: Backend) -> None:
        """Who begins at offset 0 becomes the writer, and the former writer's tokens are refused from then on."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            former, latter = Producer(), Producer()
            await former.write(bus, "former")
            await latter.write(bus, "latter")
            receipt = await former.send(bus, *former.tokens(" more"))
            assert (receipt.applied, receipt.refused, receipt.foreign_text) == (1, 1, True)
            await latter.write(bus, " more")
            await reader.until_at(latter.acknowledged)
            assert (await state(bus)).text == reader.text == "latter more"

    async def test_08_text_at_a_wrong_offset_asks_for_the_text(self, backend: Backend) -> None:
        """The writer's token at an offset that is not the stored length is not applied, and the text is asked for."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            writer = Producer()
            await writer.write(bus, "text")
            for offset in (3, 5, 100):
                receipt = await writer.send(bus, writer.update("before"), writer.token("late", offset), writer.update())
                assert (receipt.applied, receipt.refused, receipt.need) == (1, 0, "text")
            receipt = await writer.send(bus, writer.token("text, whole", 0, snapshot=True), writer.token("!", 11))
            assert (receipt.applied, receipt.need) == (2, None)
            await reader.until_at(writer.acknowledged)
            assert (await state(bus)).text == reader.text == "text, whole!"
            assert [update.status for update in reader.events(StageUpdated)] == ["before"] * 3

    async def test_08_text_of_nobody_is_asked_for(self, backend: Backend) -> None:
        """Where no text was begun, a token that continues one asks its producer for the text."""
        async with opened(backend, LIMITS) as bus:
            producer = Producer()
            await producer.open(bus, "run")
            receipt = await producer.send(bus, producer.token("late", 10))
            assert (receipt.applied, receipt.refused, receipt.need) == (0, 0, "text")
            assert (await state(bus)).text == ""

    async def test_08_text_is_measured_in_utf_16_units(self, backend: Backend) -> None:
        """Offsets count UTF-16 code units, as JavaScript does."""
        async with opened(backend, LIMITS) as bus:
            producer = Producer()
            await producer.write(bus, "😀文")
            assert (await producer.send(bus, producer.token("x", 2))).need == "text"
            assert (await producer.send(bus, producer.token("x", 3))).need is None
            taken = await state(bus)
            assert (taken.text, taken.length) == ("😀文x", 4)

    async def test_08_text_outside_a_run_is_refused(self, backend: Backend) -> None:
        """A token that continues a text of no open run is refused: it could belong to nothing."""
        async with opened(backend, LIMITS) as bus:
            late = Producer()
            receipt = await late.send(bus, late.token("late", 10))
            assert (receipt.applied, receipt.refused, receipt.need, receipt.run) == (1, 1, None, None)
            writer = Producer()
            await writer.send(bus, *writer.tokens("text"), writer.done())
            receipt = await writer.send(bus, *writer.tokens("more"))
            assert (receipt.applied, receipt.refused, receipt.foreign_text) == (1, 1, False)
            assert (await state(bus)).text == "text"

    async def test_08_text_of_each_stage_is_its_own(self, backend: Backend) -> None:
        """Stages have a text and a writer each."""
        async with opened(backend, LIMITS) as bus:
            producers = [Producer(), Producer(OTHER_STAGE)]
            for number in range(20):
                await asyncio.gather(*(one.write(bus, f"{one.topic.stage}{number} ") for one in producers))
            for producer in producers:
                expected = "".join(f"{producer.topic.stage}{number} " for number in range(20))
                assert (await state(bus, producer.topic)).text == expected

    async def test_08_text_snapshot_token_may_be_applied_twice(self, backend: Backend) -> None:
        """A snapshot token of what is there already leaves the text as it is, and its writer goes on."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            producer = Producer()
            await producer.write(bus, "text")
            for _ in range(2):
                await producer.send(bus, producer.token("text", 0, snapshot=True))
            await producer.write(bus, "!")
            await reader.until_at(producer.acknowledged)
            assert reader.text == (await state(bus)).text == "text!"
            assert [token.snapshot for token in reader.events(TokenEmitted)] == [False, True, True, False]

    async def test_08_text_ends_with_its_run(self, backend: Backend) -> None:
        """A new run begins without the text of the one before; a finished run keeps its text."""
        async with opened(backend, LIMITS) as bus, reading(bus) as reader:
            first = Producer()
            await first.send(bus, *first.tokens("first"), first.done())
            assert (await state(bus)).text == "first"
            second = Producer()
            await second.send(bus, second.update())
            assert (await state(bus)).text == ""
            await reader.until_at(second.acknowledged)
            assert reader.text == ""
