"""One project's viewers in this process and the one subscription that feeds them. Knows no HTTP."""

import asyncio
import random
from contextlib import suppress
from typing import TypeAlias

from stagecast.domain.bus import Delivery, MessageBus, Snapshot
from stagecast.domain.following import ResetCause
from stagecast.domain.positions import Position
from stagecast.domain.topics import Topic

from . import framing
from .fold import INTERVAL, ProjectFold
from .intake import Intake
from .recent import Recent
from .settings import EdgeSettings
from .viewer import Viewer

_Group: TypeAlias = tuple[str | None, bool]


class Channel:
    """`stagecast.entrypoints.sse.viewer.Source` of one project."""

    def __init__(self, bus: MessageBus, project: str, settings: EdgeSettings) -> None:
        self.bus = bus
        self.project = project
        self.settings = settings
        self.fold = ProjectFold(project)
        self.viewers: set[Viewer] = set()
        self.revision = 0
        self._loop = asyncio.get_running_loop()
        self._refetch = False
        self._intake = Intake(bus, project)
        following = self._intake.run(self._receive, lambda: None if self._refetch else self.fold.view.position)
        self._task = self._loop.create_task(following, name=f"stagecast-sse-{project}")
        self._audience: dict[_Group, dict[Viewer, None]] = {}
        """Who is to hear of news, by what they watch and whether they want the whole text; in the order they came."""
        self._due: dict[_Group, None] = {}
        self._notice: asyncio.Handle | None = None
        self._awaiting: list[asyncio.Future[None]] = []
        self._gate: asyncio.TimerHandle | None = None
        self._seen: dict[str | None, float] = {}
        self._begun = self._loop.time()
        self.drop_at = self._begun + settings.linger
        """Until when the subscription is kept for who comes back, in the loop's time, while nobody watches."""

    async def standing(self) -> None:
        """Wait until the subscription stands and the project's state is known."""
        await self._intake.standing.wait()

    async def aclose(self) -> None:
        """End the subscription. Viewers get nothing more; whoever closes has told them."""
        for timer in (self._gate, self._notice):
            if timer is not None:
                timer.cancel()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def attach(self, viewer: Viewer) -> None:
        """Let the channel live at least as long as `viewer`."""
        self.viewers.add(viewer)

    def begin(self, viewer: Viewer, cursor: int, position: Position | None) -> None:
        """Let `viewer`, who was told everything up to `cursor`, have what comes after it."""
        viewer.life, viewer.cursor, viewer.position = self.fold.life, cursor, position
        if not viewer.counted:
            viewer.counted = True
            # Not at once for all who came together, after a restart of the server.
            viewer.beat_at = self._loop.time() + self.settings.heartbeat * random.uniform(0.5, 1)  # noqa: S311
            self._audience.setdefault((viewer.topic.stage, viewer.whole), {})[viewer] = None

    def detach(self, viewer: Viewer) -> None:
        """Forget `viewer`."""
        self.viewers.discard(viewer)
        if viewer.counted:
            audience = self._audience[group := (viewer.topic.stage, viewer.whole)]
            del audience[viewer]
            if not audience:
                del self._audience[group]
        if not self.viewers:
            # Who waits for what was lost finds the clock going on, however short its connections are.
            self.drop_at = max(self._loop.time(), viewer.lost_at or 0.0) + self.settings.linger

    def fresh(self, viewer: Viewer) -> list[bytes]:
        """The frames for one who has seen nothing: the run in progress, or just ended; nothing of older ones."""
        if self.fold.view.fresh(viewer.topic, self._loop.time(), self.settings.grace):
            return self.reset(viewer, None)
        self.begin(viewer, self.fold.recent.end, None)
        return [self.place(viewer)]

    def reset(self, viewer: Viewer, cause: ResetCause | None) -> list[bytes]:
        """The frames that show `viewer` the state anew; without a cause to one who was shown nothing yet."""
        fold, topic, run = self.fold, viewer.topic, viewer.request.run
        if cause is not None and viewer.lost_at is not None and not self._is_restored(viewer):
            # It keeps its old position: should it come back before the question is decided, it has still to be told.
            seen = viewer.position or viewer.request.after
            self.begin(viewer, fold.recent.end, seen)
            return [fold.reset(topic, cause), b"" if seen is None else framing.cleared(seen)]
        viewer.lost_at = None
        self.begin(viewer, fold.recent.end, fold.view.position)
        if run is not None and self.run_of(topic) != run and (cause != "epoch" or fold.view.in_progress(topic)):
            viewer.over = True
            return [fold.stream_end()]
        parts = [] if cause is None else [fold.reset(topic, cause)]
        parts.append(fold.replay(topic, whole=viewer.whole))
        if fold.view.end(topic) is not None:
            viewer.over = True
            parts.append(fold.stream_end())
        return parts

    def run_of(self, topic: Topic) -> str | None:
        """The current run of the topic's stage."""
        state = self.fold.view.stages.get(topic.stage or "")
        return state.run if state else None

    def news(self, viewer: Viewer) -> bytes:
        fold, topic = self.fold, viewer.topic
        if viewer.life != fold.life:
            return b"".join(self.fresh(viewer) if viewer.position is None else self.reset(viewer, fold.cause))
        if viewer.lost_at is not None:
            if self._is_restored(viewer):
                return b"".join(self.reset(viewer, None))
            return self._heartbeat(viewer)
        if viewer.cursor < fold.recent.first and fold.recent.missed(viewer.cursor, topic.stage):
            return b"".join(self.reset(viewer, "truncated"))
        portion = fold.portion(viewer.cursor, topic, whole=viewer.whole, run=viewer.request.run)
        viewer.cursor = portion.cursor
        if portion.position is not None:
            viewer.position = portion.position
        if portion.over:
            viewer.over = True
            return portion.data + fold.stream_end()
        if not viewer.is_beat_due:
            return portion.data  # the very object that all others are sent
        return portion.data + self._heartbeat(viewer)

    def place(self, viewer: Viewer) -> bytes:
        """A block that tells the position, where `viewer` has everything and was not told yet.

        Not to one who waits for the run after an end that it was not shown: it would come back with a position at or
        after the end, as one does who has seen it, and be told that there is nothing to wait for. Nor to one who waits
        for what was lost: it would come back as one who had seen nothing of it.
        """
        fold = self.fold
        is_told = viewer.position == fold.view.position or viewer.lost_at is not None
        if is_told or viewer.cursor < fold.recent.end or fold.view.end(viewer.topic) is not None:
            return b""
        viewer.position = fold.view.position
        return fold.place()

    def _heartbeat(self, viewer: Viewer) -> bytes:
        if not viewer.is_beat_due:
            return b""
        viewer.is_beat_due = False
        return framing.HEARTBEAT + self.place(viewer)

    async def change(self) -> None:
        """Wait for the next delivery, whatever it is."""
        self._awaiting.append(waiter := self._loop.create_future())
        await waiter

    def tick(self, now: float, wall: float) -> None:
        """Look after heartbeats, idle and frozen viewers, expired access and lost stages; a few times a second."""
        for viewer in list(self.viewers):
            expires_at = viewer.request.expires_at
            if viewer.sending_since is not None and now - viewer.sending_since >= self.settings.stall:
                viewer.abandon(now)
            elif viewer.over or not viewer.counted:
                continue
            elif expires_at is not None and wall >= expires_at:
                viewer.finish(self._access_expired())
            elif viewer.lost_at is not None:
                self._look_for_lost(viewer, viewer.lost_at, now)
            elif self._is_idle(viewer, now):
                viewer.finish(self.fold.stream_end())
            if now >= viewer.beat_at:
                viewer.beat(now + self.settings.heartbeat)

    def _access_expired(self) -> bytes:
        """Without an id, and no end of the topic: who comes back with a new grant gets exactly the rest."""
        message = "Access has ended; connect again with a new token or ticket"
        return framing.event({"type": "access_expired", "project_id": self.project, "message": message})

    def await_restoration(self, viewer: Viewer) -> None:
        """After data was lost: what `viewer` waits for counts as lost unless somebody restores it in a lease time.

        Until then it is shown nothing: an id would tell it that it had seen all there was before.
        The time counts from the beginning of this life, for everybody: who comes back again and again is told too.
        """
        if not self._is_restored(viewer):
            viewer.lost_at = self._begun + self.bus.limits.lease

    def _look_for_lost(self, viewer: Viewer, lost_at: float, now: float) -> None:
        if now >= lost_at and not self._is_restored(viewer):
            viewer.finish(self.fold.reset(viewer.topic, "lost"), self.fold.stream_end())

    def _is_restored(self, viewer: Viewer) -> bool:
        """Whether there is a run, or an end, of after what `viewer` had seen."""
        seen = viewer.position or viewer.request.after
        return self.fold.view.has_come_back(viewer.topic, seen)

    def _is_idle(self, viewer: Viewer, now: float) -> bool:
        stage = viewer.topic.stage
        limit = self.settings.project_idle if stage is None else self.settings.stage_idle
        if now - max(viewer.since, self._seen.get(stage, viewer.since)) < limit or not self._intake.standing.is_set():
            return False
        active = self._intake.active
        return not (bool(active) if stage is None else stage in active) and not self.fold.view.is_waiting(viewer.topic)

    def _receive(self, delivery: Delivery) -> None:
        now = self._loop.time()
        self.revision += 1
        if isinstance(delivery, Snapshot):
            self._restart(delivery, now)
            return
        stage = delivery.event.stage
        try:
            whole = (stage, True) in self._audience or (None, True) in self._audience
            recent = self.fold.apply(delivery, now, whole=whole)
        except ValueError:
            self._refetch = True
            raise
        self._seen[stage] = self._seen[None] = now
        self._wake((stage, False), (None, False))
        if recent is not None:
            self._show_whole(recent, now)

    def _show_whole(self, recent: Recent, now: float) -> None:
        """Wake the viewers of the whole text, at once or when the gate opens."""
        if self.fold.holds_back(recent, now):
            if self._gate is None:
                self._gate = self._loop.call_at(self.fold.released + INTERVAL, self._open_gate)
        elif self._gate is None:
            self._wake((recent.stage, True), (None, True))
        else:
            self._open_gate()

    def _open_gate(self) -> None:
        if self._gate is not None:
            self._gate.cancel()
            self._gate = None
        self.fold.release(self._loop.time())
        self.revision += 1
        self._wake(*(group for group in self._audience if group[1]))

    def _restart(self, snapshot: Snapshot, now: float) -> None:
        awaited = [viewer for viewer in self.viewers if viewer.counted and self.fold.view.in_progress(viewer.topic)]
        self.fold.restart(snapshot, now)
        self._begun = now
        if self._refetch:
            self._refetch = False
            self.fold.cause = snapshot.reset or "truncated"
        if snapshot.reset == "epoch":
            for viewer in awaited:
                self.await_restoration(viewer)
        self._wake(*self._audience)

    def _wake(self, *groups: _Group) -> None:
        """Notify the viewers of `groups` once everything is taken that is at hand: they get it in one piece."""
        self._due.update(dict.fromkeys(groups))
        if self._notice is None:
            self._notice = self._loop.call_soon(self._notify)

    def _notify(self) -> None:
        due, self._due, self._notice = self._due, {}, None
        for group in due:
            for viewer in tuple(self._audience.get(group, ())):
                viewer.notify()
        awaiting, self._awaiting = self._awaiting, []
        for waiter in awaiting:
            if not waiter.done():
                waiter.set_result(None)
