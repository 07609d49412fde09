"""A ledger with a clock of the test's own, for the tests of the ledger."""

from stagecast.domain.bus import Batch, BusLimits, Opened, Opening, Receipt
from stagecast.domain.events import Event
from stagecast.domain.ledger import MICROSECOND, ProjectLedger
from stagecast.domain.state import StageState
from stagecast.domain.topics import Topic
from stagecast.entrypoints.testing.actors import CODEC, STAGE, Producer

START = 1_700_000_000 * MICROSECOND
LIMITS = BusLimits(log_length=10_000, time_to_live=100.0, queue_deadline=10.0)


class Log:
    """A ledger and its clock."""

    def __init__(self, limits: BusLimits = LIMITS) -> None:
        self.ledger = ProjectLedger(project="project", limits=limits, encode=CODEC.encode)
        self.now = START

    def publish(self, batch: Batch) -> Receipt:
        self.now += 1
        return self.ledger.publish(batch, [CODEC.encode(event) for event in batch.events], self.now)

    def send(self, producer: Producer, *events: Event, release: bool = False) -> Receipt:
        return producer.took(self.publish(producer.batch(*events, release=release)))

    def open(self, producer: Producer, run: str, task: str = "task", nonce: str | None = None) -> Opened:
        self.now += 1
        producer.begin_anew()
        opening = Opening(
            topic=producer.topic, run=run, task=task, nonce=nonce or f"{self.now}", producer=producer.name
        )
        opened = self.ledger.open_run(opening, self.now)
        producer.run, producer.task, producer.attempt = run, task, opened.attempt
        producer.acknowledged = opened.position
        return opened

    def state(self, topic: Topic = STAGE) -> StageState:
        assert topic.stage is not None
        stages = self.ledger.snapshot(topic, CODEC.decode, self.now).stages
        return stages.get(topic.stage) or StageState(project="project", stage=topic.stage)

    @property
    def events(self) -> list[Event]:
        return [CODEC.decode(data) for _, _, data in self.ledger.entries]

    def beats(self, run: str) -> dict[str, int]:
        leases = {of: held for _, of, held in self.ledger.leases()}
        return {producer: lease.beat for producer, lease in leases.get(run, {}).items()}

    def lose_everything(self) -> None:
        self.now += 1
        self.ledger = ProjectLedger(project="project", limits=self.ledger.limits, encode=CODEC.encode)
