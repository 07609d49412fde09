"""The rules of the log, without any I/O and with a clock of the test's own."""

from copy import deepcopy

import pytest

from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import RunSuperseded
from stagecast.domain.events import RunOpened, StageFailed, TokenEmitted
from stagecast.domain.ledger import MICROSECOND
from stagecast.domain.positions import Position
from stagecast.domain.records import PAST_RUNS
from stagecast.entrypoints.testing.actors import OTHER_STAGE, STAGE, Producer, queued
from tests.domain.logs import LIMITS, START, Log


class TestPositions:
    """Epochs and numbers."""

    def test_the_first_epoch_is_the_time(self) -> None:
        """A log's life begins at the clock's microseconds and counts from 0."""
        log, producer = Log(), Producer()
        log.send(producer, producer.update(), producer.item(1))
        assert [position for position, _, _ in log.ledger.entries] == [Position(START + 1, n) for n in range(3)]

    def test_a_clock_that_goes_back_begins_a_greater_epoch(self) -> None:
        """After a loss, a producer that knows a greater epoch raises the new one above it."""
        log, producer = Log(), Producer()
        log.send(producer, producer.update())
        known = producer.acknowledged
        assert known is not None
        log.lose_everything()
        log.now = START - 3600 * MICROSECOND
        receipt = log.send(producer, producer.item(1))
        assert receipt.need == "state"
        assert receipt.position == Position(known.epoch + 1, 0)

    def test_a_clock_that_goes_back_within_a_life_changes_nothing(self) -> None:
        """Same life, same epoch."""
        log, producer = Log(), Producer()
        log.send(producer, producer.update())
        log.now -= 3600 * MICROSECOND
        receipt = log.send(producer, producer.item(1))
        assert receipt.position == Position(START + 1, 2)

    def test_a_loss_within_one_microsecond_is_noticed(self) -> None:
        """A new life that begins at the very same time is another epoch for who has seen more of the first."""
        log, producer = Log(), Producer()
        log.send(producer, producer.update(), *producer.tokens("text"))
        log.lose_everything()
        log.now = START
        receipt = log.send(producer, producer.item(1))
        assert (receipt.need, receipt.applied) == ("state", 0)
        assert receipt.position is not None
        assert receipt.position.epoch > START + 1

    def test_the_log_keeps_its_length(self) -> None:
        """The oldest events go first, one by one."""
        log, producer = Log(BusLimits(log_length=16)), Producer()
        for number in range(50):
            log.send(producer, producer.item(number))
        assert [position.n for position, _, _ in log.ledger.entries] == list(range(34, 50))
        assert len(log.state().slots) == 50


class TestRestore:
    """Lives, dumps, and who is believed."""

    def test_a_rollback_begins_an_epoch(self) -> None:
        """The first producer that has seen more than the restored log makes a new life of it."""
        log, producer, other = Log(), Producer(), Producer(OTHER_STAGE)
        log.send(producer, producer.update())
        log.send(other, other.update())
        dump = deepcopy(log.ledger)
        log.send(producer, producer.item(1))
        log.ledger = dump
        receipt = log.send(producer, producer.item(2))
        assert (receipt.applied, receipt.need) == (0, "state")
        assert receipt.position is not None
        assert receipt.position.n == 0
        assert log.send(other, other.item(1)).need == "state"
        assert log.send(producer, producer.update(), producer.item(1), producer.item(2)).need is None
        assert set(log.state().slots) == {"status", "item:image:1", "item:image:2"}
        assert log.send(other, other.update(), other.item(1)).need is None

    def test_a_rollback_does_not_bring_a_superseded_run_back(self) -> None:
        """A run that the restored log remembers as superseded stays so."""
        log, old, new = Log(), Producer(), Producer()
        log.open(old, "old")
        log.open(new, "new")
        dump = deepcopy(log.ledger)
        log.send(new, new.item(1))
        old.acknowledged = new.acknowledged
        log.ledger = dump
        assert log.send(old, old.item(2)).superseded
        assert log.state().run == "new"

    def test_a_restored_run_has_its_attempt(self) -> None:
        """A task's attempt comes back as it was, a plain run's as the first."""
        log, plain, task = Log(), Producer(), Producer(OTHER_STAGE)
        log.send(plain, plain.update())
        for _ in range(3):
            log.open(task, "run")
        log.lose_everything()
        log.send(plain)
        log.send(task)
        assert log.state().attempt == 1
        assert log.state(OTHER_STAGE).attempt == 3
        assert log.open(Producer(OTHER_STAGE), "run").attempt == 4

    def test_an_attempt_that_began_after_a_loss_fences_the_one_before(self) -> None:
        """Numbers begin anew after a loss, so having begun in this life is what counts."""
        log, old, new = Log(), Producer(), Producer()
        for _ in range(3):
            log.open(old, "run")
        log.lose_everything()
        assert log.open(new, "run").attempt == 1
        assert log.send(old, old.update()).superseded
        assert not log.send(new, new.update()).superseded

    def test_a_producer_that_has_seen_nothing_needs_nothing(self) -> None:
        """Without an acknowledged position there is no loss to notice."""
        log, producer = Log(), Producer()
        receipt = log.send(producer)
        assert (receipt.need, receipt.position, receipt.run) == (None, None, None)


class TestProducers:
    """Sequences and their end."""

    def test_sequences_are_forgotten_with_time(self) -> None:
        """Producers unheard of for a time to live are dropped when a new one comes; who speaks is kept."""
        log, gone, living = Log(), Producer(), Producer()
        log.send(gone, gone.update())
        for _ in range(5):
            log.now += 30 * MICROSECOND
            log.send(living, living.item(1))
        log.send(Producer())
        assert set(log.ledger._producers) >= {living.name}
        assert gone.name not in log.ledger._producers

    def test_a_hole_in_the_sequence_is_a_loss(self) -> None:
        """What the producer was told was settled is gone: a new epoch begins, once, and the producer restores."""
        log, producer = Log(), Producer()
        log.send(producer, producer.update())
        seen = producer.acknowledged
        producer.sequence += 5
        assert log.send(producer, producer.item(1)).need == "state"
        assert log.send(producer, producer.item(1)).applied == 1
        assert seen is not None
        assert producer.acknowledged is not None
        assert producer.acknowledged.epoch > seen.epoch

    def test_a_batch_without_events_renews(self) -> None:
        """A sign of life changes the lease's beat and nothing else."""
        log, producer = Log(), Producer()
        log.send(producer, producer.update())
        assert producer.run is not None
        before, entries = log.beats(producer.run), len(log.ledger.entries)
        log.send(producer)
        assert log.beats(producer.run).keys() == before.keys()
        assert log.beats(producer.run) != before
        assert len(log.ledger.entries) == entries

    def test_past_runs_are_remembered_up_to_a_number(self) -> None:
        """The memory of superseded runs is bounded; a run beyond it may take the stage again."""
        log = Log()
        for number in range(PAST_RUNS + 2):
            log.open(Producer(), f"run{number}")
        with pytest.raises(RunSuperseded, match=r"run run1 of stage stage was superseded by run run17"):
            log.open(Producer(), "run1")
        assert log.open(Producer(), "run0").attempt == 1


class TestLapses:
    """Ends that the bus itself writes."""

    def test_a_lapse_is_compared_and_set(self) -> None:
        """Only who saw exactly the leases that are there ends the run, and only once."""
        log, one, two = Log(), Producer(), Producer()
        log.send(one, one.update())
        log.send(two, two.item(1))
        run = one.run
        assert run is not None
        seen = log.beats(run)
        log.send(two)
        assert not log.ledger.lapse("stage", run, seen, log.now)
        seen = log.beats(run)
        assert not log.ledger.lapse("stage", run, {one.name: seen[one.name]}, log.now)
        assert not log.ledger.lapse("stage", "other", seen, log.now)
        assert not log.ledger.lapse("unknown", run, seen, log.now)
        assert log.ledger.lapse("stage", run, seen, log.now)
        assert not log.ledger.lapse("stage", run, seen, log.now)
        assert not log.ledger.lapse("stage", run, {}, log.now)
        assert [event.reason for event in log.events if isinstance(event, StageFailed)] == ["lease"]

    def test_a_queued_run_lapses_at_its_deadline(self) -> None:
        """Not before, and with another reason."""
        log = Log()
        log.ledger.open_run(queued(STAGE, "run"), log.now)
        deadline = log.now + int(LIMITS.queue_deadline * MICROSECOND)
        assert not log.ledger.lapse("stage", "run", {}, deadline - 1)
        assert log.ledger.lapse("stage", "run", {}, deadline)
        assert [event.reason for event in log.events if isinstance(event, StageFailed)] == ["timeout"]
        assert log.open(Producer(), "run").attempt == 1
        assert log.state().in_progress

    def test_a_started_run_has_no_deadline(self) -> None:
        """Beginning an attempt ends the waiting; giving the last lease back begins it again."""
        log, producer = Log(), Producer()
        log.ledger.open_run(queued(STAGE, "run"), log.now)
        log.open(producer, "run")
        log.now += 60 * MICROSECOND
        assert not log.ledger.lapse("stage", "run", {}, log.now)
        log.send(producer, producer.update("retrying"), release=True)
        assert not log.ledger.lapse("stage", "run", {}, log.now)
        log.now += 11 * MICROSECOND
        assert log.ledger.lapse("stage", "run", {}, log.now)

    def test_a_release_by_who_had_no_lease_leaves_a_deadline(self) -> None:
        """No run is open for ever: whoever opens one without a lease gives it a deadline."""
        log, producer = Log(), Producer()
        log.send(producer, producer.update(), release=True)
        assert producer.run is not None
        log.now += 11 * MICROSECOND
        assert log.ledger.lapse("stage", producer.run, {}, log.now)

    def test_a_foreign_release_does_not_postpone_a_deadline(self) -> None:
        """Publishers that come and go do not keep a waiting run alive for ever."""
        log = Log()
        log.ledger.open_run(queued(STAGE, "run"), log.now)
        for _ in range(3):
            log.now += 4 * MICROSECOND
            passing = Producer()
            passing.run = "run"
            log.send(passing, release=True)
        assert log.ledger.lapse("stage", "run", {}, log.now)

    def test_a_late_release_does_not_reopen(self) -> None:
        """A producer presumed dead that only says good-bye leaves the run ended."""
        log, producer = Log(), Producer()
        log.send(producer, producer.update())
        assert producer.run is not None
        log.ledger.lapse("stage", producer.run, log.beats(producer.run), log.now)
        log.send(producer, release=True)
        assert not log.state().in_progress
        log.send(producer, producer.item(1), release=True)
        assert log.state().in_progress
        log.now += 11 * MICROSECOND
        assert log.ledger.lapse("stage", producer.run, {}, log.now)

    def test_a_new_attempt_forgets_the_leases_before(self) -> None:
        """A dead attempt's lease is not the next one's fault."""
        log, dead, new = Log(), Producer(), Producer()
        log.open(dead, "run")
        log.open(new, "run")
        assert log.beats("run").keys() == {new.name}
        log.send(new, new.update("retrying"), release=True)
        assert log.beats("run") == {}
        assert log.state().in_progress

    def test_a_cancelled_run_lapses_as_cancelled(self) -> None:
        """And a producer of it that was only away does not reopen it."""
        log, producer = Log(), Producer()
        log.open(producer, "run")
        assert log.ledger.cancel(STAGE, "run", log.now)
        assert log.ledger.lapse("stage", "run", log.beats("run"), log.now)
        assert [event.reason for event in log.events if isinstance(event, StageFailed)] == ["cancelled"]
        receipt = log.send(producer, producer.item(1), *producer.tokens("text"))
        assert (receipt.refused, receipt.cancelled) == (1, True)
        assert not log.state().in_progress


def test_openings_are_told_before_what_they_open() -> None:
    """The log has the opening of a run first, then the event that opened it."""
    log, producer = Log(), Producer()
    log.send(producer, *producer.tokens("text"))
    assert [event.type for event in log.events] == [RunOpened.type, TokenEmitted.type]
