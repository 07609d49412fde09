"""Guarantees 5 and 7: resuming after a position, and the bounds of what is kept."""

from time import monotonic

from stagecast.domain.bus import BusLimits, Snapshot
from stagecast.domain.events import RunOpened, StageCompleted, StageFailed, StageUpdated, TokenEmitted
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic

from .actors import OTHER_STAGE, PROJECT, STAGE, Producer, openings, queued, reading, shown, snapshot, state
from .backend import Backend, eventually, opened
from .claims import ContractTests

LIMITS = BusLimits()
SHORT_LOG = BusLimits(log_length=64)
SHORT_LIFE = BusLimits(time_to_live=0.8)
FAR = 3_000


class ResumeContract(ContractTests):
    """What a reader gets who comes back, and what is gone by then."""

    async def test_05_resume_yields_the_exact_rest(self, backend: Backend) -> None:
        """After any position of a run, resuming yields all that came after it, once, without a snapshot."""
        async with opened(backend, LIMITS) as bus, opened(backend, LIMITS) as other_bus:
            producer, other = Producer(), Producer(OTHER_STAGE)
            positions = list[Position]()
            for number in range(30):
                await producer.write(bus, f"{number} ")
                assert producer.acknowledged is not None
                positions.append(producer.acknowledged)
                await other.send(bus, other.update(f"step{number}"))
            await producer.send(bus, producer.done())
            for seen in (0, 1, 14, 28, 29):
                async with reading(other_bus, after=positions[seen]) as reader:
                    await reader.until_at(producer.acknowledged)
                    await reader.until_any(StageCompleted)
                assert not reader.snapshots
                assert reader.contents() == [f"{number} " for number in range(seen + 1, 30)]
                assert len(reader.events(StageCompleted)) == 1

    async def test_05_resume_at_the_end_waits_for_the_next_event(self, backend: Backend) -> None:
        """After the last position nothing is delivered until something new comes."""
        async with opened(backend, LIMITS) as bus:
            producer = Producer()
            await producer.write(bus, "a")
            async with reading(bus, after=producer.acknowledged) as reader:
                await producer.write(bus, "b")
                await reader.until_at(producer.acknowledged)
            assert [type(one) for one in reader.deliveries] == [type(reader.published[0])]
            assert reader.contents() == ["b"]

    async def test_05_resume_after_an_interruption_ends_in_the_same_state(self, backend: Backend) -> None:
        """A reader that goes and comes back, again and again, ends with the state that a fresh one is given."""
        async with opened(backend, LIMITS) as bus, reading(bus, PROJECT) as steady:
            producer, other = Producer(), Producer(OTHER_STAGE)
            stages, position = None, None
            for number in range(12):
                async with reading(bus, PROJECT, after=position, stages=stages) as reader:
                    await producer.send(bus, *producer.tokens(f"{number} "), producer.progress(number, 12))
                    await other.send(bus, other.item(number))
                    await reader.until_at(other.acknowledged)
                stages, position = reader.stages, reader.position
                await producer.send(bus, *producer.tokens("unseen "), producer.item(number))
            await producer.send(bus, producer.done())
            async with reading(bus, PROJECT, after=position, stages=stages) as reader:
                await reader.until_at(producer.acknowledged)
            await steady.until_at(producer.acknowledged)
            fresh = await snapshot(bus, PROJECT)
        assert not reader.snapshots
        for name, known in fresh.stages.items():
            assert shown(reader.stages[name]) == shown(known) == shown(steady.stages[name])

    async def test_05_resume_from_a_position_that_is_too_old(self, backend: Backend) -> None:
        """After a position that the log no longer reaches, a reset (truncated) and a snapshot are delivered."""
        async with opened(backend, SHORT_LOG) as bus:
            producer = Producer()
            await producer.write(bus, "a")
            old = producer.acknowledged
            for _ in range(FAR // 50):
                await producer.write(bus, *("b" * 50))
            recent = producer.acknowledged
            await producer.write(bus, *("c" * 60))
            async with reading(bus, after=old) as reader, reading(bus, after=recent) as near:
                await reader.until_at(producer.acknowledged)
                await near.until_at(producer.acknowledged)
            assert reader.resets == ["truncated"]
            assert reader.text == "a" + "b" * FAR + "c" * 60
            assert not near.resets
            assert near.contents() == ["c"] * 60

    async def test_05_resume_from_another_epoch(self, backend: Backend) -> None:
        """After a position of another life of the log, a reset (epoch) and a snapshot are delivered."""
        async with opened(backend, LIMITS) as bus:
            producer = Producer()
            await producer.write(bus, "old")
            old = producer.acknowledged
            await backend.lose_everything()
            newer = Producer()
            await newer.write(bus, "new")
            async with reading(bus, after=old) as reader:
                await reader.until_count(1)
            assert reader.resets == ["epoch"]
            assert reader.text == "new"
            assert newer.acknowledged is not None
            assert old is not None
            assert newer.acknowledged.epoch > old.epoch

    async def test_05_resume_from_a_position_ahead_of_the_log(self, backend: Backend) -> None:
        """After a position that the log has not reached, a reset and a snapshot are delivered, never silence."""
        async with opened(backend, LIMITS) as bus:
            producer = Producer()
            await producer.write(bus, "text")
            end = producer.acknowledged
            assert end is not None
            for ahead in (Position(end.epoch, end.n + 1), Position(end.epoch, end.n + 10**6), Position(2**62, 5)):
                async with reading(bus, after=ahead) as reader:
                    await reader.until_count(1)
                assert len(reader.resets) == 1
                assert reader.text == "text"

    async def test_05_resume_where_nothing_is_left(self, backend: Backend) -> None:
        """After a position of a project that the bus does not know, an empty snapshot with a reset is delivered."""
        async with opened(backend, LIMITS) as bus, reading(bus, after=Position(17, 4)) as reader:
            await reader.until_count(1)
            assert reader.resets == ["epoch"]
            assert (reader.snapshots[0].position, dict(reader.snapshots[0].stages)) == (None, {})
            producer = Producer()
            await producer.write(bus, "text")
            await reader.until_at(producer.acknowledged)
        assert reader.text == "text"

    async def test_05_resume_never_replays_a_superseded_run(self, backend: Backend) -> None:
        """Of a stage where a newer run has begun, resuming begins with that run's opening; other stages are whole."""
        async with opened(backend, LIMITS) as bus, reading(bus, PROJECT) as gone:
            first, other = Producer(), Producer(OTHER_STAGE)
            await first.write(bus, "first ")
            await gone.until_at(first.acknowledged)
            stages, position = dict(gone.stages), gone.position
            await first.send(bus, *first.tokens("unseen"), first.item(1), first.progress(1, 2), first.done())
            await other.write(bus, "other")
            second = Producer()
            await second.send(bus, second.update("again"), *second.tokens("second"))
            async with reading(bus, PROJECT, after=position, stages=stages) as back:
                await back.until_at(second.acknowledged)
            mine = [one.event for one in back.published if one.event.stage == "stage"]
            assert [type(event) for event in mine] == [RunOpened, StageUpdated, TokenEmitted]
            assert back.stages["other"].text == "other"
            for name, known in (await snapshot(bus, PROJECT)).stages.items():
                assert shown(back.stages[name]) == shown(known)

    async def test_05_resume_never_replays_a_superseded_attempt(self, backend: Backend) -> None:
        """Tokens of an attempt that a newer one has begun anew are not replayed; items of the run are."""
        async with opened(backend, LIMITS) as bus, reading(bus) as gone:
            first = Producer()
            await first.open(bus, "run")
            await first.write(bus, "first ")
            await gone.until_at(first.acknowledged)
            stages, position = dict(gone.stages), gone.position
            await first.send(bus, *first.tokens("unseen"), first.item(1))
            second = Producer()
            await second.open(bus, "run")
            await second.write(bus, "second")
            async with reading(bus, after=position, stages=stages) as back:
                await back.until_at(second.acknowledged)
            assert back.contents() == ["second"]
            assert shown(back.state()) == shown(await state(bus))
            assert "item:image:1" in back.state().slots

    async def test_05_resume_never_replays_a_superseded_text(self, backend: Backend) -> None:
        """Tokens before the last beginning of the text are not replayed."""
        async with opened(backend, LIMITS) as bus:
            producer = Producer()
            await producer.write(bus, "draft ")
            position, stages = producer.acknowledged, (await snapshot(bus)).stages
            await producer.write(bus, "more of the draft")
            producer.length = 0
            await producer.write(bus, "final ", "text")
            async with reading(bus, after=position, stages=stages) as back:
                await back.until_at(producer.acknowledged)
            assert back.contents() == ["final ", "text"]
            assert back.text == "final text"

    async def test_05_resume_never_replays_an_end_that_was_none(self, backend: Backend) -> None:
        """The end of a run that was reopened, by a new attempt, is not replayed."""
        async with opened(backend, LIMITS) as bus:
            first = Producer()
            await first.open(bus, "run")
            await first.send(bus, *first.tokens("first"))
            position, stages = first.acknowledged, (await snapshot(bus)).stages
            await first.send(bus, first.failed())
            second = Producer()
            await second.open(bus, "run")
            await second.write(bus, "second")
            async with reading(bus, after=position, stages=stages) as back:
                await back.until_at(second.acknowledged)
            assert not back.events(StageFailed)
            assert back.state().in_progress

    async def test_05_resume_across_several_runs(self, backend: Backend) -> None:
        """However many runs have passed, resuming shows the newest opening alone."""
        async with opened(backend, LIMITS) as bus:
            first = Producer()
            await first.write(bus, "run 0")
            position, stages = first.acknowledged, (await snapshot(bus)).stages
            for number in range(1, 6):
                await bus.open_run(queued(STAGE, f"run{number}"))
                await Producer().open(bus, f"run{number}")
            async with reading(bus, after=position, stages=stages) as back:
                await back.until(lambda: "status" in back.state().slots)
            assert openings(back) == ["run5"]

    async def test_07_bounded_log(self, backend: Backend) -> None:
        """Old events leave the log while the state stays whole, so a late joiner still sees everything."""
        async with opened(backend, SHORT_LOG) as bus:
            producer = Producer()
            await producer.send(bus, producer.update("processing"), producer.item(1))
            early = producer.acknowledged
            for _ in range(FAR // 50):
                await producer.write(bus, *("b" * 50))
            async with reading(bus, after=early) as reader:
                await reader.until_at(producer.acknowledged)
            assert reader.resets == ["truncated"]
            known = await state(bus)
            assert known.text == "b" * FAR
            assert {"status", "item:image:1"} <= known.slots.keys()

    async def test_07_bounded_life_ends_together(self, backend: Backend) -> None:
        """A time to live after its last write, all of a project is gone: stages, texts, log and open runs alike."""
        async with opened(backend, SHORT_LIFE) as bus, opened(backend, SHORT_LIFE) as watching:
            producer, other = Producer(), Producer(OTHER_STAGE)
            await producer.write(bus, "text")
            await other.write(bus, "other")
            async with reading(watching, PROJECT) as reader:
                first = await snapshot(bus, PROJECT)
                assert first.stages.keys() == {"stage", "other"}

                async def gone() -> bool:
                    taken = await snapshot(bus, PROJECT)
                    if taken.position is not None:
                        assert taken.stages["stage"].text == "text"
                        assert taken.stages["other"].text == "other"
                    return taken.position is None

                await eventually(gone)
                assert dict((await snapshot(bus, PROJECT)).stages) == {}
                await reader.until_reset()
                assert reader.resets == ["epoch"]
                assert reader.position is None
            async with reading(bus, after=producer.acknowledged) as back:
                await back.until_count(1)
            assert back.resets == ["epoch"]
            newer = Producer()
            await newer.write(bus, "new life")
            assert newer.acknowledged is not None
            assert producer.acknowledged is not None
            assert newer.acknowledged.epoch > producer.acknowledged.epoch
            assert (await state(bus)).text == "new life"

    async def test_07_bounded_life_is_renewed_as_a_whole(self, backend: Backend) -> None:
        """Renewals of one producer keep the whole project alive, stages that nobody writes to included."""
        async with opened(backend, SHORT_LIFE) as bus:
            producer, other = Producer(), Producer(OTHER_STAGE)
            await other.send(bus, *other.tokens("other"), other.done())
            await producer.write(bus, "text")
            began = monotonic()

            async def renewed() -> bool:
                receipt = await producer.send(bus)
                assert receipt.need is None
                return monotonic() - began > 3 * SHORT_LIFE.time_to_live

            await eventually(renewed)
            taken = await snapshot(bus, PROJECT)
            assert isinstance(taken, Snapshot)
            assert taken.stages["stage"].text == "text"
            assert taken.stages["other"].text == "other"
            async with reading(bus, Topic("project", "other"), after=Position(other.acknowledged.epoch, 0)) as reader:  # type: ignore[union-attr]
                await reader.until_any(StageCompleted)
            assert not reader.resets
