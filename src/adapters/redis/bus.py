"""MessageBus on one Redis: batches into the script, subscriptions out of the feed and the log."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

from attrs import Factory, define
from redis.asyncio.connection import parse_url

from stagecast.adapters.transport.per_loop import PerLoop
from stagecast.adapters.transport.store import Entry
from stagecast.adapters.transport.subscription import LogSubscription
from stagecast.domain.bus import Batch, BusLimits, Capabilities, EventCodec, Opened, Opening, Receipt, Snapshot
from stagecast.domain.errors import EventTooLarge, NotConfigured, RunSuperseded
from stagecast.domain.events import (
    Event,
    FailureReason,
    PipelineCompleted,
    PipelineFailed,
    RunOpened,
    StageCompleted,
    StageFailed,
    StageUpdated,
    TokenEmitted,
    opens_run,
    slot_of,
)
from stagecast.domain.leases import report_lapse
from stagecast.domain.ledger import LAPSE_MESSAGES, MICROSECOND
from stagecast.domain.positions import Position
from stagecast.domain.text import units
from stagecast.domain.topics import Topic

from .feed import Feed
from .link import DEFAULTS, Argument, Connect, Link, connect_to
from .sentinel import is_sentinel_url
from .settings import NO_CHANNEL, ConnectionSettings, SeedChannels
from .state import Keys, position_of, snapshot_of

SEED_CHANNELS = SeedChannels()
_TURNS = frozenset({"o", "e", "d"})
"""Effects of events that may open or end a run; a token at offset 0 may too."""


@define(eq=False)
class _Local:
    """What belongs to one event loop."""

    bus: "RedisBus"
    link: Link
    feed: Feed
    subscriptions: set[LogSubscription] = Factory(set)

    async def page(self, project: str, after: Position | None, count: int) -> tuple[list[Entry], Position | None]:
        found, last = await self.link.log_after(Keys(project).log, str(after) if after else "0-0", count)
        entries = [(position_of(id_), fields[b"s"].decode(), fields[b"e"]) for id_, fields in found]
        return [(at, stage, line) for at, stage, line in entries if at is not None], position_of(last)

    async def snapshot(self, topic: Topic, *, texts: bool = True) -> Snapshot:
        keys = Keys(topic.project)
        arguments = [keys.text_prefix, topic.stage or "", "1" if texts else "0"]
        answer = await self.link.snapshot([keys.log, keys.meta], arguments)
        return snapshot_of(topic, answer, self.bus.codec.decode)

    def live_stages(self, project: str) -> frozenset[str]:
        return self.feed.liveness.get(project, frozenset())

    async def aclose(self) -> None:
        """End every subscription and free the connections."""
        for subscription in list(self.subscriptions):
            subscription.close()
        await self.feed.aclose()
        await self.link.aclose()


class RedisBus:
    """`stagecast.domain.bus.MessageBus` on Redis 7.0 or newer, or Valkey.

    It connects at its first use. Each event loop that uses it gets three connections of its own; a forked child begins
    anew. `seed` says what readers of the seed's channels get.
    """

    capabilities = Capabilities(persistent=True)

    def __init__(
        self,
        codec: EventCodec,
        limits: BusLimits,
        connect: Connect,
        settings: ConnectionSettings = DEFAULTS,
        seed: SeedChannels = SEED_CHANNELS,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.codec = codec
        self.limits = limits
        self._connect, self._settings = connect, settings
        self._seed = seed
        self._clock = clock
        self._bounds: list[Argument] = [
            int(seed.full_text),
            limits.log_length,
            int(limits.time_to_live * 1000),
            int(limits.queue_deadline * MICROSECOND),
        ]
        self._loops = PerLoop(self._local)

    async def open_run(self, opening: Opening) -> Opened:
        queued = b"" if opening.queued is None else self.codec.encode(opening.queued)
        answer = await self._ledger(
            "open", opening.topic, [opening.run, opening.task, opening.nonce, opening.producer, queued]
        )
        if answer[0] == b"superseded":
            current = answer[1].decode()
            raise RunSuperseded(f"run {opening.run} of stage {opening.topic.stage} was superseded by run {current}")
        _, attempt, position, cancelled = answer
        return Opened(run=opening.run, attempt=attempt, position=position_of(position), cancelled=bool(cancelled))

    async def publish(self, batch: Batch) -> Receipt:
        arguments: list[Argument] = [
            batch.producer,
            batch.first,
            batch.run or "",
            batch.task or "",
            batch.attempt,
            batch.new_run,
            str(batch.acknowledged or ""),
            int(batch.release),
            len(batch.events),
        ]
        may_turn = batch.run is None or batch.release
        for event in batch.events:
            effect = self._effect(event)
            may_turn = may_turn or effect[:2] == ["t", 0] or effect[0] in _TURNS
            arguments += effect
        answer = await self._ledger("publish", batch.topic, arguments, with_lines=may_turn)
        if answer[0] == b"lines":
            answer = await self._ledger("publish", batch.topic, arguments)
        applied, position, run, refused, foreign, superseded, cancelled, need = answer
        return Receipt(
            applied=applied,
            position=position_of(position),
            run=run.decode() or None,
            refused=refused,
            foreign_text=bool(foreign),
            superseded=bool(superseded),
            cancelled=bool(cancelled),
            need=need.decode() or None,
        )

    async def cancel(self, topic: Topic, run: str) -> bool:
        return bool(await self._ledger("cancel", topic, [run]))

    @asynccontextmanager
    async def subscribe(self, topic: Topic, after: Position | None = None) -> AsyncIterator[LogSubscription]:
        local = self._loops.here()
        subscription = LogSubscription(topic, local, self.codec.decode)
        await local.feed.join(topic.project, subscription)
        try:
            local.subscriptions.add(subscription)
            await subscription.start(after)
            yield subscription
        finally:
            subscription.close()
            local.subscriptions.discard(subscription)
            await local.feed.leave(topic.project, subscription)

    async def aclose(self) -> None:
        await self._loops.aclose()

    async def _ledger(
        self, command: str, topic: Topic, arguments: Sequence[Argument], *, with_lines: bool = True
    ) -> Any:
        """The script's answer. Few batches need the lines that it writes by itself: most go without."""
        link, stage = self._loops.here().link, topic.one_stage
        keys, seed, text_prefix = _names(topic.project, stage, self._seed.channel)
        lines: tuple[bytes, bytes] = (b"", b"")
        if with_lines:
            opened = RunOpened(
                project=topic.project, stage=stage, timestamp=self._clock(), run="", attempt=0, fresh=True
            )
            lines = (self.codec.encode(opened).partition(b"\t")[2], self._failure(topic, "cancelled"))
        common = [command, stage, link.feed_of(topic.project), seed, *self._bounds, text_prefix, *lines]
        return await link.ledger(keys, [*common, *arguments])

    def _effect(self, event: Event) -> list[Argument]:
        """The event as the script takes it: kind, offset or slot, units, text, line."""
        line = self.codec.encode(event)
        token = event if isinstance(event, TokenEmitted) else None
        if len(line) > self.limits.event_bytes and not (token and token.snapshot):
            raise EventTooLarge(f"{event.type} of {len(line)} bytes; the limit is {self.limits.event_bytes}")
        if token:
            return ["t", token.offset, units(token.content), token.content, line]
        match event:
            case StageCompleted(full_text=None):
                kind = "d"
            case StageCompleted() | StageFailed():
                kind = "e"
            case StageUpdated(is_final=True):
                kind = "f"
            case PipelineCompleted() | PipelineFailed():
                kind = "p"
            case _:
                kind = "o" if opens_run(event) else "x"
        return [kind, slot_of(event) or "", 0, "", line]

    def _failure(self, topic: Topic, reason: FailureReason) -> bytes:
        event = StageFailed(
            project=topic.project,
            stage=topic.one_stage,
            timestamp=self._clock(),
            error=LAPSE_MESSAGES[reason],
            reason=reason,
        )
        return self.codec.encode(event)

    async def _lapse(self, project: str, stage: str, run: str, beats: dict[str, str]) -> None:
        topic = Topic(project, stage)
        lines = [self._failure(topic, "lease"), self._failure(topic, "timeout")]
        pairs = [text for pair in beats.items() for text in pair]
        if await self._ledger("lapse", topic, [run, *lines, *pairs]):
            report_lapse((project, stage, run), beats)

    def _local(self) -> _Local:
        link = Link(self._connect, self._settings)
        return _Local(self, link, Feed(link, self.limits, self._lapse, self._clock))


@lru_cache(maxsize=256)
def _names(project: str, stage: str, seed: str) -> tuple[list[str], str, str]:
    """The script's keys, the seed's channel or "", and the prefix of text keys."""
    keys = Keys(project)
    channel = seed.format(project_id=project, stage_name=stage) if seed != NO_CHANNEL else ""
    return keys.of_stage(stage), channel, keys.text_prefix


def open_redis_bus(
    url: str,
    codec: EventCodec,
    limits: BusLimits,
    settings: ConnectionSettings = DEFAULTS,
    seed: SeedChannels = SEED_CHANNELS,
) -> RedisBus:
    """A bus for `redis://`, `rediss://`, `unix://` or `redis+sentinel://`. Raises NotConfigured for what is none."""
    try:
        if not is_sentinel_url(url):
            parse_url(url)
        connect = connect_to(url, settings)
        connect(max_connections=1).connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except TypeError:
        raise NotConfigured("an option in the URL's query is none of redis-py's") from None
    except ValueError as error:
        # urllib's own message about a port can hold a part of a password.
        is_ours = str(error).startswith(("Invalid value for", "the URL of Sentinels"))
        reason = str(error) if is_ours else "not the URL of a Redis"
        raise NotConfigured(f"{reason}; what is special in a password must be percent-encoded") from None
    return RedisBus(codec, limits, connect, settings, seed)
