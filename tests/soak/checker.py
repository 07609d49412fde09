"""Compares what each viewer was shown with what the publishers were told was acknowledged. Pure.

What every viewer must have at the end of a run, rebuilt from token messages alone:

* `done`, and an `error` that the publisher itself has published: exactly the text that was handed over, all items.
* `error`, reason lease: only where the publisher was killed or stopped; a beginning of what was handed over, and all
  that was acknowledged.
* no end: only where the run was overtaken by a newer one, or (below) where nobody holds it.

At all times the text is a beginning of one run's text, and ids never fall. What differs for a reason is counted:

* after a loss of all data, what a publisher had held that was killed, slept, or had delivered everything and closed, is
  held by nobody: its viewers may be told that it is lost, and have less than was acknowledged;
* who came back after that with an old position may be told so too where its stage had not begun yet: a server cannot
  know what a position was the position of;
* who leaves is owed no end.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from attrs import Factory, define

from stagecast.domain.positions import Position

from .journal import Handed
from .records import Events, Record, Session
from .shown import Fault, Shown, Violation, compared

CLOSING = 1.0
"""Seconds from the moment that a publisher lets go until its journal says so."""
LAPSING = 7.0
"""Seconds of silence that may end a run: a little less than the soak's lease."""
RESTORING = 6.0
"""Seconds that a publisher may need to put back what was lost: one that is killed sooner has not."""


@define
class Verdict:
    """What was found."""

    violations: list[Violation] = Factory(list)
    sessions: Counter[str] = Factory(Counter)
    """By how they ended."""
    ends: Counter[str] = Factory(Counter)
    """Ends of runs as viewers saw them."""
    excused: Counter[str] = Factory(Counter)
    texts: int = 0
    tokens: int = 0
    """Handed over."""
    shown: int = 0
    """Messages that viewers were sent."""

    def count(self, *faults: Fault) -> int:
        return sum(violation.fault in faults for violation in self.violations)


def check(handed: Mapping[str, Handed], events: Events, sessions: Iterable[Session]) -> Verdict:
    """Check all sessions."""
    verdict = Verdict(texts=len(handed), tokens=sum(len(one.tokens) for one in handed.values()))
    runs: defaultdict[tuple[str, str], list[Handed]] = defaultdict(list)
    for one in sorted(handed.values(), key=lambda one: one.began):
        runs[one.project, one.stage].append(one)
    for session in sessions:
        verdict.sessions[session.end] += 1
        verdict.shown += len(session.records)
        _Check(handed, events, runs, session, verdict).run()
    return verdict


@define
class _Check:
    """Of one session."""

    handed: Mapping[str, Handed]
    events: Events
    runs: Mapping[tuple[str, str], list[Handed]]
    session: Session
    verdict: Verdict
    stages: dict[str, Shown] = Factory(dict)
    last: Position | None = None
    is_reset: bool = False
    """Whether a reset was just shown: its snapshot may stand where the viewer stood before."""
    seen: dict[str, str | None] = Factory(dict)
    """The texts that were shown, and their stage's end where it was shown."""
    told_lost: bool = False
    lapses: Counter[str] = Factory(Counter)
    """How often the run of each text was seen to lapse."""

    def run(self) -> None:
        for record in self.session.records:
            self._see_id(record)
            self._see(record)
        for shown in self.stages.values():
            self._compare(shown)
        self._see_end()

    def _see_id(self, record: Record) -> None:
        if record[1] is None:
            return
        position = Position.parse(record[1])
        if self.last is not None and (position < self.last or (position == self.last and not self.is_reset)):
            self._violated("falling id", None, f"{position} after {self.last}")
        self.last, self.is_reset = position, False

    def _see(self, record: Record) -> None:
        kind, stage = record[0], record[2]
        if kind == "reset":
            self.is_reset = True
            self.told_lost = self.told_lost or record[3] == "lost"
            for shown in self.stages.values():
                if stage in {None, shown.stage}:
                    self._compare(shown)
                    shown.reset()
            return
        if stage is None:
            return
        shown = self.stages.setdefault(stage, Shown(stage))
        if kind == "token":
            replaced = shown.add_token(record)
            if replaced is not None:
                self._compare_text(replaced)
        elif kind == "item":
            shown.add_item(record[3], record[4])
        elif kind in {"done", "error"}:
            self._see_end_of_run(shown, kind, (record[3] or "exception") if kind == "error" else "")
        if shown.key is not None:
            self.seen.setdefault(shown.key, None)

    def _see_end_of_run(self, shown: Shown, kind: str, reason: str) -> None:
        end = f"{kind} {reason}".strip()
        self.verdict.ends[end] += 1
        self._compare(shown)
        one = self.handed.get(shown.key or "")
        if one is None:
            self._see_end_without_text(shown, end)
            return
        self.seen[one.key] = end
        if reason == "lease":
            self._see_lapse(shown, one)
            return
        published = {"done": "done", "error exception": "error", "error cancelled": "cancelled"}
        if one.end != published.get(end):
            if end == "error cancelled" and self._was_unattended(one):
                self.verdict.excused["a cancelled run whose publisher was killed"] += 1
            else:
                self._violated("unknown", one.key, f"{end}, but its publisher has published {one.end}")
        elif shown.text != one.text and not shown.is_lost:
            self._violated("lost", one.key, f"{end} with {len(shown.text)} characters of {len(one.text)}")
        elif shown.items.get(one.key, []) != one.items:
            self._violated("lost", one.key, f"{end} with the items {shown.items} of {one.items}")
        for key in shown.items:
            if key not in self.handed or self.handed[key].run != one.run:
                self._violated("mixed", one.key, f"has items of {key}")

    def _see_lapse(self, shown: Shown, one: Handed) -> None:
        if not self._was_unattended(one):
            self._violated("unknown", one.key, "error, reason lease, of a publisher that lives")
        self.lapses[one.key] += 1
        silences = self._silences_of(one)[self.lapses[one.key] - 1 :]
        if not silences or any(self._was_shown_until(silence, shown, one) for silence in silences):
            return
        last = silences[-1]
        missing = [at for at, length in one.acknowledged if length > shown.length and at <= last]
        if self._was_lost_after(max(min(missing), last - RESTORING)):
            self.verdict.excused["acknowledged, lost with Redis, and its publisher killed or stopped"] += 1
        else:
            self._violated("lost", one.key, f"lapsed with {shown.length} of {one.demanded} acknowledged units")

    def _was_shown_until(self, silence: float, shown: Shown, one: Handed) -> bool:
        return all(length <= shown.length for at, length in one.acknowledged if at <= silence)

    def _silences_of(self, one: Handed) -> list[float]:
        """When it fell silent for so long that its run lapsed, once or again: each lapse shows what came before one."""
        asleep = [begin for begin, end in self.events.asleep.get(one.key, ()) if end - begin >= LAPSING]
        killed = [self.events.killed[one.key]] if one.key in self.events.killed else []
        return sorted(at for at in [*asleep, *killed] if at <= self.session.ended)

    def _see_end_without_text(self, shown: Shown, end: str) -> None:
        """An end before any token: of a run that has nothing to show."""
        candidates = self.runs.get((self.session.project, shown.stage), [])
        killed = [one for one in candidates if self._was_unattended(one)]
        excused = [one for one in killed if not one.demanded or self._was_lost_after(one.began)]
        if end in {"error lease", "error cancelled"} and excused:
            self.verdict.excused["an end without text of a publisher that was killed or stopped"] += 1
            self.seen.update(dict.fromkeys((one.key for one in excused), end))
        elif end == "error cancelled" and any(one.end == "cancelled" and not one.tokens for one in candidates):
            pass
        else:
            self._violated("lost", shown.stage, f"{end} without any text")

    def _see_end(self) -> None:
        """Whether the viewer saw the end of all that it saw begin."""
        session = self.session
        if session.end == "left":
            return
        if session.end.startswith("refused") or session.end == "open":
            self._violated("refused", None, session.end)
        waiting = [key for key, end in self.seen.items() if end is None and key in self.handed]
        for key in waiting:
            self._excuse(self.handed[key])
        was_skipped = any(record[0] == "skipped" for record in session.records)
        if not self.seen and not was_skipped and session.end != "closed":
            self._excuse_nothing_seen()

    def _excuse(self, one: Handed) -> None:
        """Why the end of this run was not shown."""
        later = [other for other in self.runs[one.project, one.stage] if other.began > one.began]
        if any(other.key in self.seen for other in later):
            self.verdict.excused["overtaken by a newer run or attempt"] += 1
        elif self.session.end != "gave_up" and self._is_held_by_nobody(one):
            self.verdict.excused["held by nobody when Redis lost it, and told so" if self.told_lost else UNTOLD] += 1
        elif one.key in self.events.killed and self.session.stage is None and self.session.end == "closed":
            self.verdict.excused["the pipeline's end came first"] += 1
        else:
            self._violated("no end", one.key, f"its viewer never saw it end: {self.session.end}")

    def _excuse_nothing_seen(self) -> None:
        session = self.session
        runs = [one for (project, stage), several in self.runs.items() for one in several
                if project == session.project and session.stage in {None, stage}]  # fmt: skip
        if all(self._was_unattended(one) or self._is_held_by_nobody(one) for one in runs):
            self.verdict.excused["nothing to see: killed before it began, or lost"] += 1
        elif all(one.over is not None and one.over < session.began for one in runs):
            self.verdict.excused["nothing to see: all was over"] += 1
        elif self.told_lost and self._was_lost_after(session.began):
            self.verdict.excused["told of a loss before its stage had begun"] += 1
        else:
            self._violated("no end", None, f"its viewer never saw anything: {session.end}")

    def _was_unattended(self, one: Handed) -> bool:
        return one.key in self.events.killed or one.key in self.events.asleep

    def _was_lost_after(self, at: float) -> bool:
        return any(at <= until and begin <= self.session.ended for begin, until in self.events.losses)

    def _is_held_by_nobody(self, one: Handed) -> bool:
        """Whether all data was lost while its publisher was no more, and before the viewer's end."""
        free = [] if one.over is None else [one.over - CLOSING]
        fell_silent = [begin for begin, _ in self.events.asleep.get(one.key, ())]
        if one.key in self.events.killed:
            fell_silent.append(self.events.killed[one.key])
        free += [at - RESTORING for at in fell_silent]
        return bool(free) and self._was_lost_after(min(free))

    def _compare(self, shown: Shown) -> None:
        for fault, detail in shown.faults:
            self._violated(fault, shown.key, detail)
        shown.faults.clear()
        if not shown.is_lost and shown.pieces:
            self._compare_text(shown.text)

    def _compare_text(self, text: str) -> None:
        first = Shown("", pieces=[text]).key
        one = self.handed.get(first or "")
        if one is None:
            self._violated("unknown", first, f"a text that nobody handed over: {text[:24]!r}")
        elif one.project != self.session.project:
            self._violated("mixed", first, f"shown in {self.session.project}")
        elif found := compared(text, one):
            self._violated(found[0], first, found[1])

    def _violated(self, fault: Fault, key: str | None, detail: str) -> None:
        violation = Violation(fault, self.session.name, key or "", detail)
        if violation not in self.verdict.violations:
            self.verdict.violations.append(violation)


UNTOLD = "held by nobody when Redis lost it, and its end came to light otherwise"
