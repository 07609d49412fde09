"""Random histories of a log: the state is the fold of the log, and no open run is without a lease or a deadline."""

from hypothesis import given, settings
from hypothesis import strategies as st

from stagecast.domain.bus import Batch
from stagecast.domain.errors import RunSuperseded
from stagecast.domain.events import Event
from stagecast.domain.ledger import MICROSECOND
from stagecast.domain.positions import Position
from stagecast.domain.state import StageState
from stagecast.entrypoints.testing.actors import CODEC, OTHER_STAGE, PROJECT, STAGE, Producer, queued, shown
from tests.domain.logs import Log

PRODUCERS = 4


@st.composite
def actions(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """What producers of two stages do: kind, producer, a number."""
    kinds = ["token", "token", "token", "anew", "wrong", "status", "final", "item", "done", "failed", "open", "again"]
    kinds += ["renew", "release", "repeat", "cancel", "lapse", "queue", "lose"]
    one = st.tuples(st.sampled_from(kinds), st.integers(0, PRODUCERS - 1), st.integers(0, 3))
    return draw(st.lists(one, max_size=60))


def said(producer: Producer, kind: str, number: int) -> list[Event]:
    """The events of one batch."""
    match kind:
        case "token":
            return producer.tokens("x" * (number + 1))
        case "anew":
            return [producer.token("anew", 0)]
        case "wrong":
            return [producer.token("wrong", producer.length + 1)]
        case "status":
            return [producer.update(f"step{number}")]
        case "final":
            return [producer.update("completed")]
        case "item":
            return [producer.item(number), producer.progress(1, 2)]
        case "done":
            return [producer.done()]
        case "failed":
            return [producer.failed(), producer.item(number)]
        case _:
            return []


def perform(log: Log, producers: list[Producer], last: dict[str, Batch], action: tuple[str, int, int]) -> None:
    """One action; a producer that is asked for its state sends its text and a status."""
    kind, index, number = action
    producer = producers[index]
    match kind:
        case "open" | "again":
            run = f"run{number if kind == 'open' else 0}-{producer.topic.stage}"
            try:
                log.open(producer, run, task=f"task{index}")
            except RunSuperseded:
                return
            producer.length = 0
            return
        case "cancel":
            log.ledger.cancel(producer.topic, producer.run or "", log.now)
            return
        case "lapse":
            run = producer.run or ""
            log.now += 5 * MICROSECOND
            assert producer.topic.stage is not None
            log.ledger.lapse(producer.topic.stage, run, log.beats(run), log.now)
            return
        case "queue":
            try:
                log.ledger.open_run(queued(producer.topic, f"run{number}-{producer.topic.stage}"), log.now)
            except RunSuperseded:
                return
            return
        case "lose":
            log.lose_everything()
            last.clear()
            return
        case "repeat":
            if batch := last.get(producer.name):
                entries, end = len(log.ledger.entries), log.ledger.end
                receipt = log.publish(batch)
                assert receipt.need is not None or receipt.superseded or receipt.applied == len(batch.events)
                if receipt.need is None and batch.events:
                    assert (len(log.ledger.entries), log.ledger.end) == (entries, end)
            return
    events = said(producer, kind, number)
    if kind == "anew":
        producer.length = 4
    batch = producer.batch(*events, release=kind == "release")
    receipt = producer.took(log.publish(batch))
    if receipt.need is None and not receipt.superseded and receipt.applied == len(events):
        last[producer.name] = batch
    if receipt.need == "state":
        receipt = log.send(producer, producer.update("restored"), producer.token("restored", 0, snapshot=True))
        producer.length = 8
        assert receipt.need is None


@settings(deadline=None, max_examples=200)
@given(actions())
def test_the_log_and_the_state_agree(history: list[tuple[str, int, int]]) -> None:
    """After every action, folding the log gives the state of each stage, and positions have no hole."""
    log, last = Log(), dict[str, Batch]()
    producers = [Producer(STAGE if n % 2 else OTHER_STAGE) for n in range(PRODUCERS)]
    folds, read, epoch = dict[str, StageState](), 0, 0
    for action in history:
        perform(log, producers, last, action)
        entries = list(log.ledger.entries)
        if entries and (entries[-1][0].epoch != epoch or len(entries) < read):
            folds, read, epoch = {}, 0, entries[-1][0].epoch
        elif not entries:
            folds, read = {}, 0
        for position, stage, data in entries[read:]:
            assert position == Position(epoch, position.n)
            fold = folds.setdefault(stage, StageState(project="project", stage=stage))
            fold.apply(position, CODEC.decode(data))
        assert [position.n for position, _, _ in entries] == list(range(len(entries)))
        read = len(entries)
        snapshot = log.ledger.snapshot(PROJECT, CODEC.decode, log.now)
        for stage, state in snapshot.stages.items():
            assert shown(state) == shown(folds.get(stage) or StageState(project="project", stage=stage))
            assert state.length == len(state.text)
        for _, run, leases in log.ledger.leases():
            assert all(lease.run == run for lease in leases.values())
        open_stages = {name for name, state in snapshot.stages.items() if state.in_progress}
        assert {name for name, _, _ in log.ledger.leases()} == open_stages, "an open run has a lease or a deadline"
