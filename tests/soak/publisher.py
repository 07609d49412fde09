"""A process that publishes what it is told to, several runs at once: commands come on stdin, news go to stdout.

python -m tests.soak.publisher JOURNAL SEED
"""

import asyncio
import json
import os
import random
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

from stagecast import RedisStreamPublisher
from stagecast.domain.producing import TaskRun
from stagecast.entrypoints.background import background

from .generator import Recipe, close, publish
from .journal import Journal


class Publishing:
    """The runs of this process, each in a thread of its own."""

    def __init__(self, journal: Journal, seed: int) -> None:
        self._journal, self._seed = journal, seed
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._reached: dict[str, int | None] = {}
        """The number of the stage that is published now, once Redis has told its run."""
        self._disowned: set[str] = set()

    def obey(self, command: dict[str, Any]) -> None:
        match command:
            case {"do": "run", "episode": str(episode)}:
                thread = threading.Thread(target=self._run, kwargs=command)
                self._threads = {one for one in self._threads if one.is_alive()} | {thread}
                thread.start()
            case {"do": "disown", "episode": episode}:
                with self._lock:
                    if (reached := self._reached.get(episode)) is not None:
                        self._disowned.add(episode)
                    self._say(disowned=episode, reached=reached)
            case {"do": "fail", "project": project, "stages": stages}:
                threading.Thread(target=self._fail, args=(project, stages)).start()
            case {"do": "count"}:
                self._say(**self._counts())

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _run(
        self, episode: str, project: str, keys: dict[str, str], first: int, recipe: dict[str, Any], named: bool, do: str
    ) -> None:
        """Publish the stages from the one of number `first` on, then the end of the pipeline."""
        chance = random.Random(f"{self._seed} {episode}")
        outcome, left = "done", list(keys)[first:]
        while left and outcome == "done" and self._reach(episode, None):
            number, stage = len(keys) - len(left), left.pop(0)
            key = keys[stage]
            task = TaskRun(run=key, task=key) if named else None
            publisher = RedisStreamPublisher(project, stage, task=task)
            begun = partial(self._reach, episode, number)
            try:
                outcome = publish(publisher, self._journal, key, Recipe(**recipe), chance, begun=begun)
            finally:
                close(publisher, self._journal, key)
        with self._lock:
            is_owner = episode not in self._disowned and outcome != "superseded"
            self._reached.pop(episode, None)
        if is_owner:
            self._end(project, left, failed=outcome != "done")
        self._say(over=episode, outcome=outcome)

    def _reach(self, episode: str, number: int | None) -> bool:
        """Note that the stage of that number has begun; False where somebody else publishes what comes next."""
        with self._lock:
            self._reached[episode] = number
            return episode not in self._disowned

    def _fail(self, project: str, stages: list[str]) -> None:
        self._end(project, stages, failed=True)
        self._say(failed=project)

    def _end(self, project: str, skipped: list[str], *, failed: bool) -> None:
        """Publish the pipeline's end, and before it, that stages will not come any more."""
        for stage in skipped:
            with RedisStreamPublisher(project, stage, timeout=30) as publisher:
                publisher.publish_stage_update("skipped")
        with RedisStreamPublisher(project, "rewrite", timeout=30) as publisher:
            if failed:
                publisher.publish_pipeline_error("a stage failed")
            else:
                publisher.publish_pipeline_done()

    def _counts(self) -> dict[str, int]:
        loop = background()._loop
        tasks = asyncio.run_coroutine_threadsafe(_count_tasks(), loop).result(10)
        return {"threads": threading.active_count(), "files": len(os.listdir("/proc/self/fd")), "tasks": tasks}

    def _say(self, **news: Any) -> None:
        sys.stdout.write(json.dumps(news) + "\n")  # one write: threads don't tear it
        sys.stdout.flush()


async def _count_tasks() -> int:
    """Those of the loop, without this one."""
    return len(asyncio.all_tasks()) - 1


def main(path: str, seed: str) -> None:
    journal = Journal(Path(path))
    publishing = Publishing(journal, int(seed))
    for line in sys.stdin:
        publishing.obey(json.loads(line))
    publishing.join()
    journal.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
