"""The rules of the log: which event of which producer counts, what opens and ends a run, who writes the text.

`ProjectLedger` is those rules in their readable form, for one project and without any I/O. A transport without a
scripting engine of its own runs it as it stands; the Redis script is its translation, and the contract suite and a
model test hold the two to each other. The rules:

* **Text has one writer**: the producer that last began at offset 0. Its token is appended where its offset is the
  stored length; elsewhere the receipt's `need` asks for the text. Tokens of others are refused.
* **Runs.** `done` and `error` end the run. Its producers stay in it: late progress of theirs is delivered and opens
  nothing. A token at offset 0, or a non-final `stage_update`, of a new producer or of the one that ended the run,
  opens the next; a new producer's `done` or `error` opens and ends one. A second end is refused. A final
  `stage_update` outside a run ends the stage's stream.
* **Attempts** are numbered per (run, task) at each execution start; a newer attempt fences the older ones of its task.
* **Continuity.** A producer whose acknowledged position is not in the log's current life is asked for all it holds.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from attrs import Factory, define, evolve

from .bus import Batch, BusLimits, Need, Opened, Opening, Receipt, Snapshot
from .errors import RunSuperseded
from .events import (
    PIPELINE,
    Event,
    FailureReason,
    RunOpened,
    StageFailed,
    StageUpdated,
    TokenEmitted,
    ends_run,
    opens_run,
    slot_of,
)
from .positions import Position
from .records import Decode, Lease, ProducerRecord, StageRecord, TaskRecord
from .text import units
from .topics import Topic

Encode: TypeAlias = Callable[[Event], bytes]

MICROSECOND = 1_000_000
LAPSE_MESSAGES: dict[FailureReason, str] = {
    "lease": "The worker stopped responding.",
    "cancelled": "The run was cancelled.",
    "timeout": "The run did not start in time.",
}


@define
class ProjectLedger:
    """One project's log and the state of its stages. Times are microseconds of the backend's clock."""

    project: str
    limits: BusLimits
    encode: Encode
    end: Position | None = None
    entries: deque[tuple[Position, str, bytes]] = Factory(deque)
    """The log: position, stage, encoded event; at most `limits.log_length`."""
    touched: int = 0
    _epoch: int = 0
    stages: dict[str, StageRecord] = Factory(dict)
    _producers: dict[str, ProducerRecord] = Factory(dict)

    def open_run(self, opening: Opening, now: int) -> Opened:
        """Announce a run or begin an attempt (`MessageBus.open_run`). Raises RunSuperseded."""
        name = opening.topic.one_stage
        queued = None if opening.queued is None else (opening.queued, self.encode(opening.queued))
        self.touched = now
        stage = self.stages.setdefault(name, StageRecord())
        if opening.run in stage.past:
            raise RunSuperseded(f"run {opening.run} of stage {name} was superseded by run {stage.run}")
        known = stage.run == opening.run
        if queued is not None:
            if not known:
                self._open(name, stage, opening.run, attempt=0, fresh=True, now=now)
                self._append(name, stage, *queued, now)
                stage.queued_until = now + int(self.limits.queue_deadline * MICROSECOND)
            return Opened(run=opening.run, attempt=stage.attempt, position=self.end, cancelled=stage.cancelled)
        task = stage.tasks.get(opening.task) if known else None
        if known and stage.cancelled:
            return Opened(run=opening.run, attempt=stage.attempt, position=self.end, cancelled=True)
        if task is None or task.nonce != opening.nonce:
            task = TaskRecord((task.attempt if task else 0) + 1, opening.nonce)
            if not known or task.attempt > 1 or stage.presumed_dead:
                fresh = not known or opening.task in {stage.writer_task, opening.run}  # a run of one task is its own
                stage.leases.clear()  # the fenced attempt's may never be given back; who lives renews within a second
                self._open(name, stage, opening.run, attempt=task.attempt, fresh=fresh, now=now)
            stage.attempt = max(stage.attempt, task.attempt)
            stage.tasks[opening.task] = task
        if stage.in_progress:
            stage.leases[opening.producer] = Lease(opening.run, now)
        stage.queued_until = None
        return Opened(run=opening.run, attempt=task.attempt, position=self.end)

    def publish(self, batch: Batch, encoded: Sequence[bytes], now: int) -> Receipt:
        """Append what counts of `batch`, whose events are `encoded` in the same order (`MessageBus.publish`)."""
        self.touched = now
        producer = self._producers.get(batch.producer)
        skip = 0 if producer is None else min(max(producer.sequence - batch.first + 1, 0), len(batch.events))
        run = batch.run or (producer.run if producer else None)
        stage = self.stages.setdefault(batch.stage, StageRecord())
        if batch.events and skip == len(batch.events):
            return self._settle(batch, stage, run, applied=skip, now=now)

        rolled_back = self._is_ahead(batch, producer)
        if rolled_back:
            assert batch.acknowledged is not None
            self._epoch = max(now, self._epoch + 1, batch.acknowledged.epoch + 1)
        lost = batch.acknowledged is not None and (
            rolled_back or self.end is None or batch.acknowledged.epoch != self.end.epoch
        )
        if run is not None:
            stale = stage.run is None or (lost and run not in stage.past and self._is_newer(stage, run, batch))
            if not stale and (stage.run != run or self._is_fenced(stage, batch, lost)):
                refused = len(batch.events) - skip
                return self._settle(batch, stage, run, len(batch.events), now, refused=refused, superseded=True)
            task = stage.tasks.get(batch.task) if batch.task and not stale else None
            overtakes = lost and task is not None and task.attempt < batch.attempt  # an older attempt came back first
            if stale or overtakes or (lost and batch.task and task is None):
                if stale or overtakes:
                    fresh = stale or batch.task in {stage.writer_task, run}
                    stage.leases.clear()
                    self._open(batch.stage, stage, run, attempt=max(batch.attempt, 1), fresh=fresh, now=now)
                    stage.restored = batch.acknowledged
                if batch.task:
                    stage.tasks[batch.task] = TaskRecord(batch.attempt, "")
                lost = True
            if lost:
                return self._settle(batch, stage, run, applied=skip, now=now, need="state")
            if stage.presumed_dead and stage.ended is not None and (batch.events or not batch.release):
                self._open(batch.stage, stage, run, attempt=stage.attempt, fresh=False, now=now)
        elif stage.in_progress:
            run = stage.run
        return self._apply(batch, encoded, skip, stage, run, now)

    def _apply(
        self, batch: Batch, encoded: Sequence[bytes], skip: int, stage: StageRecord, run: str | None, now: int
    ) -> Receipt:
        applied, refused, foreign_text = skip, 0, False
        need: Need | None = None
        for event, data in zip(batch.events[skip:], encoded[skip:], strict=True):
            new = run is None
            opens = opens_run(event) and (new or stage.ender == batch.producer)
            if not stage.in_progress and (opens or (new and ends_run(event))):
                if stage.run == batch.new_run:
                    break
                run = batch.new_run
                self._open(batch.stage, stage, run, attempt=1, fresh=True, now=now)
            match event:
                case TokenEmitted(offset=0) if stage.in_progress:
                    stage.clear_text(self._next(now))
                    stage.writer, stage.writer_task = batch.producer, batch.task
                case TokenEmitted(offset=offset) if stage.in_progress and stage.writer in {None, batch.producer}:
                    if stage.writer is None or offset != stage.length:
                        need = "text"
                        break
                case TokenEmitted():
                    refused, applied, foreign_text = refused + 1, applied + 1, stage.in_progress
                    continue
                case _ if ends_run(event):
                    if not stage.in_progress:
                        refused, applied = refused + 1, applied + 1
                        continue
                    stage.ender = batch.producer
            self._append(batch.stage, stage, event, data, now)
            applied += 1
        receipt = self._settle(batch, stage, run, applied, now, refused=refused, need=need)
        return evolve(receipt, foreign_text=foreign_text)

    def _settle(
        self,
        batch: Batch,
        stage: StageRecord,
        run: str | None,
        applied: int,
        now: int,
        *,
        refused: int = 0,
        superseded: bool = False,
        need: Need | None = None,
    ) -> Receipt:
        """Remember the producer's sequence and sign of life, and answer."""
        if self.end is None or self.end.epoch != self._epoch:  # an epoch without an event never began
            self._epoch = self.end.epoch if self.end else 0
        known = self._producers.get(batch.producer)
        sequence = max(batch.first + applied - 1, known.sequence if known else 0)
        if known is None:
            self._forget_producers(now)
        self._producers.pop(batch.producer, None)
        self._producers[batch.producer] = ProducerRecord(sequence, run, now)
        if run is not None and run == stage.run and not superseded:
            if stage.in_progress and not batch.release:
                stage.leases[batch.producer] = Lease(run, now)
                stage.queued_until = None
            else:
                stage.leases.pop(batch.producer, None)
                if stage.in_progress and not stage.leases:
                    if stage.cancelled:
                        self._fail(batch.stage, stage, "cancelled", now)
                    elif stage.queued_until is None:
                        stage.queued_until = now + int(self.limits.queue_deadline * MICROSECOND)
        return Receipt(
            applied=applied,
            position=self.end,
            run=run,
            refused=refused,
            superseded=superseded,
            cancelled=stage.cancelled and run == stage.run,
            need=need,
        )

    def cancel(self, topic: Topic, run: str, now: int) -> bool:
        """Flag `run` as cancelled; end it at once where nobody holds a lease on it (`MessageBus.cancel`)."""
        name = topic.one_stage
        stage = self.stages.get(name)
        if stage is None or stage.run != run or not stage.in_progress:
            return False
        self.touched = now
        stage.cancelled = True
        if not stage.leases:
            self._fail(name, stage, "cancelled", now)
        return True

    def leases(self) -> Iterator[tuple[str, str, dict[str, Lease]]]:
        """Stage, run and leases of every run in progress that somebody holds a lease on, or that is overdue."""
        for name, stage in self.stages.items():
            if stage.run is not None and stage.in_progress and (stage.leases or stage.queued_until):
                yield name, stage.run, dict(stage.leases)

    def lapse(self, name: str, run: str, seen: dict[str, int], now: int) -> bool:
        """End `run` if its leases are exactly those `seen` (producer -> beat) by a watcher for a whole lease time.

        With `seen` empty: if it waits for a start past its deadline.
        """
        stage = self.stages.get(name)
        if stage is None or stage.run != run or not stage.in_progress:
            return False
        if {producer: lease.beat for producer, lease in stage.leases.items()} != seen:
            return False
        if not seen and (stage.queued_until is None or now < stage.queued_until):
            return False
        reason: FailureReason = "cancelled" if stage.cancelled else "lease" if seen else "timeout"
        self._fail(name, stage, reason, now)
        stage.presumed_dead = not stage.cancelled
        return True

    def snapshot(self, topic: Topic, decode: Decode, now: int) -> Snapshot:
        """The state of the topic's stages at the end of the log."""
        stages = {
            name: stage.state(self.project, name, decode) for name, stage in self.stages.items() if topic.covers(name)
        }
        return Snapshot(position=self.end, stages=stages, time=now / MICROSECOND)

    def _is_ahead(self, batch: Batch, producer: ProducerRecord | None) -> bool:
        """Whether a producer knows what this log, restored from an older state, has lost: positions, or its own events.

        The latter where others have made the log grow since, beyond what the producer has seen.
        """
        acknowledged = batch.acknowledged
        if acknowledged is None or self.end is None:
            return acknowledged is not None
        missing = batch.first - 1 > (producer.sequence if producer else 0)
        return acknowledged > self.end or (missing and acknowledged.epoch == self.end.epoch)

    def _is_newer(self, stage: StageRecord, run: str, batch: Batch) -> bool:
        """After a loss: whether the producer's `run` is to be restored, and is none that the stage's run has overtaken.

        Of two runs whose producers both restore, the later one was acknowledged farther in the life that is lost.
        """
        if stage.opened is None or stage.opened.epoch != self._epoch:
            return True
        first, acknowledged = stage.restored, batch.acknowledged
        return stage.run != run and first is not None and acknowledged is not None and first < acknowledged

    def _is_fenced(self, stage: StageRecord, batch: Batch, lost: bool) -> bool:
        """Whether a newer attempt of the task has begun; after a loss, which numbers anew, any that has begun since."""
        task = stage.tasks.get(batch.task) if batch.task else None
        return task is not None and (task.attempt > batch.attempt or (lost and task.nonce != ""))

    def _open(self, name: str, stage: StageRecord, run: str, *, attempt: int, fresh: bool, now: int) -> None:
        position = self._next(now)
        if run != stage.run or stage.began is None or stage.began.epoch != position.epoch:
            if stage.run is not None and stage.run != run:
                stage.past.append(stage.run)
            stage.slots.clear()
            stage.tasks.clear()
            stage.leases.clear()
            stage.began = position
            stage.cancelled = False
            stage.queued_until = None
            stage.pipeline_ended = None
            fresh = True
        if fresh:
            stage.clear_text(position)
        stage.slots.pop("outcome", None)
        stage.run, stage.attempt, stage.opened = run, attempt, position
        stage.ended = stage.ended_at = stage.ender = None
        stage.presumed_dead = False
        stage.restored = None
        event = RunOpened(
            project=self.project, stage=name, timestamp=now / MICROSECOND, run=run, attempt=attempt, fresh=fresh
        )
        self._append(name, stage, event, self.encode(event), now)

    def _fail(self, name: str, stage: StageRecord, reason: FailureReason, now: int) -> None:
        event = StageFailed(
            project=self.project,
            stage=name,
            timestamp=now / MICROSECOND,
            error=LAPSE_MESSAGES[reason],
            reason=reason,
        )
        self._append(name, stage, event, self.encode(event), now)

    def _append(self, name: str, stage: StageRecord, event: Event, data: bytes, now: int) -> None:
        position = self._next(now)
        final = isinstance(event, StageUpdated) and event.is_final and not stage.in_progress
        if isinstance(event, TokenEmitted):
            stage.text.append(event.content)
            stage.length += units(event.content)
        if slot := slot_of(event):
            stage.slots[slot] = data
        if slot == PIPELINE:
            stage.pipeline_ended = position
        if ends_run(event) or final:
            stage.ended, stage.ended_at = position, now / MICROSECOND
            stage.leases.clear()  # also those of the dead, whose run somebody else has ended
            stage.queued_until = None
        self.end = position
        self.entries.append((position, name, data))
        while len(self.entries) > self.limits.log_length:
            self.entries.popleft()

    def _next(self, now: int) -> Position:
        """The position of the next event. The first one of a life takes its epoch from the clock."""
        if self.end is None:
            self._epoch = max(self._epoch, now)
            return Position(self._epoch, 0)
        if self._epoch > self.end.epoch:
            return Position(self._epoch, 0)
        return Position(self.end.epoch, self.end.n + 1)

    def _forget_producers(self, now: int) -> None:
        """Drop the sequences of producers unheard of for a time to live, oldest first."""
        horizon = now - int(self.limits.time_to_live * MICROSECOND)
        while self._producers:
            oldest = next(iter(self._producers))
            if self._producers[oldest].seen >= horizon:
                return
            del self._producers[oldest]
