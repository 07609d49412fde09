"""One project's life: it is published, watched in many manners, sometimes stopped or begun anew, and ends."""

import asyncio
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import Factory, asdict, define
from celery import Celery

from .generator import Recipe
from .journal import Handed, read_folder
from .processes import Publisher
from .records import Session, SessionFile
from .scene import LEASE, Scene
from .viewer import Manner, watch

STAGES = "rewrite", "storyboard"
PATIENCE = 3 * LEASE + 20
"""Seconds after all was published in which every viewer must have come to its end, whatever is broken meanwhile."""
TASK_PATIENCE = PATIENCE + 40


def manners(chance: random.Random) -> list[tuple[str | None, bool, Manner]]:
    """Who watches a project: stage, whether by deltas, and how."""
    first, second = STAGES

    def late(stage: str | None) -> tuple[str | None, bool, Manner]:
        return stage, chance.random() < 0.5, Manner(name="late", begins_after=chance.uniform(0.5, 5))

    def torn(stage: str | None) -> tuple[str | None, bool, Manner]:
        return stage, chance.random() < 0.5, Manner(name="torn", reconnects_every=chance.uniform(0.5, 3))

    return [
        (first, False, Manner()),
        (second, True, Manner()),
        (None, False, Manner()),
        (None, True, Manner()),
        late(chance.choice([first, None])),
        torn(first),
        torn(None),
        (first, chance.random() < 0.3, Manner(name="slow", receive_buffer=4096, pause=0.05)),
        (None, True, Manner(name="leaver", leaves_after=chance.uniform(1, 8))),
    ]


@define(eq=False)
class Episode:
    """A project that is published now."""

    name: str
    publisher: Publisher
    keys: dict[str, str]
    """The name of the text of each stage."""
    takeover: "asyncio.Task[dict[str, Any]] | None" = None
    """Another publisher has begun the runs anew."""


@define(eq=False)
class Episodes:
    """Those of the soak, several at once, one after the other in each slot."""

    scene: Scene
    chance: random.Random
    file: SessionFile
    active: list[Episode] = Factory(list)
    tasks: set[str] = Factory(set)
    """Projects that a Celery worker publishes now."""
    count: int = 0
    is_over: bool = False
    _watching: set[asyncio.Task[None]] = Factory(set)

    async def slot(self, publisher: Publisher) -> None:
        """One project after the other, until the soak is over."""
        while not self.is_over:
            await self.project(publisher)

    async def task_slot(self) -> None:
        """The same, by Celery tasks."""
        while not self.is_over:
            await self.task()

    async def project(self, publisher: Publisher, *, tokens: int | None = None) -> None:
        name, chance = self._name(), self.chance
        episode = Episode(name, publisher, {stage: f"{name}{stage[0]}" for stage in STAGES})
        recipe = self._recipe(tokens)
        watching = self._watch(name, manners(chance))
        self.active.append(episode)
        try:
            news = await self._run(episode, publisher, "", 0, recipe, named=chance.random() < 0.5)
            if episode.takeover is not None:
                news = await episode.takeover
        finally:
            self.active.remove(episode)
        if news.get("outcome") in {
            None,
            "superseded",
        }:  # killed: somebody notices that a stage has failed, and ends all
            _, tasks = zip(*watching, strict=True)
            await asyncio.wait([next((task for task in tasks[:2] if not task.done()), tasks[0])], timeout=3 * LEASE)
            await self.scene.steady.ask("fail", name, stages=STAGES)
        await self._finish(watching, PATIENCE)

    async def task(self, *, tokens: int | None = None) -> None:
        """A project of one stage, which a Celery task publishes."""
        name = self._name()
        self.tasks.add(name)
        watching = self._watch(name, [one for one in manners(self.chance) if one[0] == STAGES[0]])
        recipe = asdict(self._recipe(tokens))
        await asyncio.to_thread(self._send, [name, name, str(self.scene.folder), recipe])
        try:
            await self._finish(watching, TASK_PATIENCE)
        finally:
            self.tasks.discard(name)

    def _send(self, arguments: list[Any]) -> None:
        with Celery(broker=self.scene.broker.url, set_as_current=False) as app:
            app.conf.task_ignore_result = True
            app.send_task("stream", arguments)

    async def take_over(self, episode: Episode, publisher: Publisher) -> bool:
        """Begin the run of the stage that is published now anew; False where the episode was over."""
        if episode.takeover is not None or not (answer := await episode.publisher.ask("disown", episode.name)):
            return False
        if (reached := answer["reached"]) is None:
            return False
        self._begin_anew(episode, publisher, reached)
        return True

    def supplant(self, episode: Episode, publisher: Publisher, in_hand: Mapping[str, Handed]) -> bool:
        """The same, while its publisher sleeps and cannot be asked; `in_hand` are the texts that it has begun.

        One that knows no run yet is left alone: it would join the run that is begun anew, as a plain publisher does.
        """
        known = [key for key, one in in_hand.items() if one.acknowledged]
        reached = [number for number, key in enumerate(episode.keys.values()) if key in known]
        if episode.takeover is not None or not reached:
            return False
        self._begin_anew(episode, publisher, reached[0])
        return True

    def _begin_anew(self, episode: Episode, publisher: Publisher, first: int) -> None:
        work = self._run(episode, publisher, "+", first, self._recipe(), named=True)
        episode.takeover = asyncio.create_task(work)

    async def _run(
        self, episode: Episode, publisher: Publisher, again: str, first: int, recipe: Recipe, *, named: bool
    ) -> dict[str, Any]:
        publisher.busy += 1
        try:
            return await publisher.ask(
                "run",
                episode.name + again,
                project=episode.name,
                keys={stage: key + again for stage, key in episode.keys.items()},
                first=first,
                recipe=asdict(recipe),
                named=named,
            )
        finally:
            publisher.busy -= 1

    def _name(self) -> str:
        self.count += 1
        return f"p{self.count}"

    def _recipe(self, tokens: int | None = None) -> Recipe:
        """How the next run's texts are made: some of few big tokens, some that fail."""
        chance = self.chance
        if tokens is not None:
            return Recipe(tokens=tokens, pause=0.01)
        if chance.random() < 0.1:
            return Recipe(tokens=chance.randint(50, 80), pause=0.12, size=600)
        tokens = chance.randint(60, 160)
        return Recipe(tokens=tokens, pause=chance.uniform(0.03, 0.08), fails=chance.random() < 0.1)

    def _watch(
        self, project: str, viewers: list[tuple[str | None, bool, Manner]]
    ) -> list[tuple[Session, asyncio.Task[None]]]:
        found = []
        for number, (stage, delta, manner) in enumerate(viewers):
            session = Session(f"{project}/{number}", project, stage, delta)
            look = watch(self.scene.round_robin.port, session, manner, random.Random(self.chance.random()))
            task = asyncio.create_task(look)
            self._watching.add(task)
            task.add_done_callback(self._watching.discard)
            found.append((session, task))
        return found

    async def _finish(self, watching: list[tuple[Session, asyncio.Task[None]]], patience: float) -> None:
        """Wait until all viewers have come to their end; whoever has not is told to give up, and will be judged."""
        tasks = [task for _, task in watching]
        _, late = await asyncio.wait(tasks, timeout=patience)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks)
        for session, _ in watching:
            self.file.add(session)


def executing(folder: Path, name: str) -> tuple[str, int] | None:
    """The text that a Celery task publishes now, and by which process; None where there is none."""
    found = read_folder(folder, f"task-{name}-*.journal")
    begun = [one for one in found.values() if one.over is None and one.tokens]
    newest = max(begun, key=lambda one: one.began, default=None)
    return (newest.key, newest.pid) if newest is not None else None
