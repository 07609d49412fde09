"""The checker reports each way in which a promise can be broken, and excuses only what has a reason."""

import json
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import pytest
from attrs import evolve, frozen

from tests.soak.checker import Verdict, check
from tests.soak.journal import Handed, read
from tests.soak.records import Events, Record, Session, checksum, record_of
from tests.soak.shown import Fault

Change = Callable[[list[Record]], object]
BEGAN = 100.0


def journal(key: str, *, began: float = BEGAN, count: int = 6, end: str | None = "done", **fields: Any) -> list[str]:
    """The lines of a publisher that hands over `count` tokens, the first four of them acknowledged."""
    entries: list[dict[str, Any]] = [{"project": "p", "stage": "s", "pid": 1}]
    entries += [{"token": f"⟦{key}:{number}⟧😀 "} for number in range(count)]
    entries[5:5] = [{"acknowledged": "text"}, {"item": 3}]
    if end is not None:
        entries += [{"end": end}, {"acknowledged": "end"}, {"over": True}]
    at = [{"at": began + number} for number in range(len(entries))]
    return [json.dumps({"key": key, **time, **entry, **fields}) + "\n" for time, entry in zip(at, entries, strict=True)]


def messages(key: str, *, count: int = 6, end: str = "done", first: int = 0) -> list[Record]:
    """What a viewer of the whole text is sent of them, the first position being number `first`."""
    records, text = list[Record](), ""
    for number in range(count):
        text += (content := f"⟦{key}:{number}⟧😀 ")
        message = {"type": "token", "stage": "s", "content": content, "full_text": text}
        records.append(record_of(message, f"1-{first + number}"))
    item = {"type": "item_completed", "stage": "s", "sequence_number": 3, "metadata": {"text": key}}
    records.insert(4, record_of(item, f"1-{first + 4}"))
    for number, record in enumerate(records[5:]):
        record[1] = f"1-{first + 5 + number}"
    if end:
        kind, _, reason = end.partition(" ")
        records.append(record_of({"type": kind, "stage": "s", "reason": reason or None}, f"1-{first + count + 1}"))
    return records


def deltas(records: Iterable[Record]) -> list[Record]:
    """The same, for a viewer of deltas."""
    return [[*record[:5], None] if record[0] == "token" else record for record in records]


def session(records: list[Record], **fields: Any) -> Session:
    given = Session("v", "p", "s", delta=False, began=BEGAN, ended=BEGAN + 60, end="closed", records=records)
    return evolve(given, **fields)


def handed(*several: list[str]) -> dict[str, Handed]:
    return read(line for lines in several for line in lines)


def swap(records: list[Record]) -> None:
    """Two tokens in the wrong order, under the positions of the right one."""
    records[1], records[2] = records[2], records[1]
    records[1][1], records[2][1] = records[2][1], records[1][1]


def swap_well(records: list[Record]) -> None:
    """The same, by a server that made offsets and whole texts to fit."""
    records[1][4], records[2][4] = records[2][4], records[1][4]
    _refit(records)


def twice_well(records: list[Record]) -> None:
    """A token that comes twice, by a server that made offsets and whole texts to fit."""
    records.insert(2, [*records[1]])
    _refit(records)


def lose_well(records: list[Record]) -> None:
    """A token that is missing, by a server that made offsets and whole texts to fit."""
    del records[2]
    _refit(records)


def mix(records: list[Record]) -> None:
    """A token of another run in the middle, made to fit."""
    records[2][4] = records[2][4].replace("k", "other")
    _refit(records)


def _refit(records: list[Record]) -> None:
    text = ""
    for number, record in enumerate(records):
        record[1] = f"1-{number}"
        if record[0] == "token":
            record[3] = len(text.encode("utf-16-le")) // 2
            text += record[4]
            record[5] = checksum(text)


def fall(records: list[Record]) -> None:
    records[3][1] = "1-1"


def drop(*numbers: int) -> Change:
    def dropped(records: list[Record]) -> None:
        for number in sorted(numbers, reverse=True):
            del records[number]

    dropped.__name__ = f"without {numbers}"
    return dropped


def repeat(records: list[Record]) -> None:
    records.insert(2, [*records[1][:1], None, *records[1][2:]])


def repeat_item(records: list[Record]) -> None:
    records.insert(5, [*records[4][:1], None, *records[4][2:]])


def mix_items(records: list[Record]) -> None:
    records[4][4] = "other"


def go_back(records: list[Record]) -> None:
    """A snapshot that is shorter than what was shown."""
    records.insert(3, ["token", None, "s", 0, records[0][4], None])


TAMPERED: list[tuple[Change, Fault]] = [
    (drop(2), "lost"),
    (drop(4), "lost"),
    (drop(6), "lost"),
    (lose_well, "lost"),
    (go_back, "lost"),
    (repeat, "duplicated"),
    (repeat_item, "duplicated"),
    (twice_well, "duplicated"),
    (swap, "out of order"),
    (swap_well, "out of order"),
    (mix, "mixed"),
    (mix_items, "lost"),
    (fall, "falling id"),
    (drop(7), "no end"),
    (list.clear, "no end"),
]


@pytest.mark.parametrize("delta", [False, True], ids=["whole", "delta"])
@pytest.mark.parametrize(("change", "fault"), TAMPERED, ids=lambda value: getattr(value, "__name__", value))
def test_tampered_records_are_reported(change: Change, fault: Fault, delta: bool) -> None:
    """Whatever a viewer was not sent as it was handed over is reported for what it is."""
    records = messages("k")
    assert check(handed(journal("k")), Events(), [session(deepcopy(records))]).violations == []
    change(records)
    end = "closed" if any(record[0] == "done" for record in records) else "stream_end"
    verdict = check(handed(journal("k")), Events(), [session(deltas(records) if delta else records, end=end)])
    assert verdict.violations[0].fault == fault


def test_whole_texts_must_be_what_the_tokens_make() -> None:
    """A `full_text` that is not the sum of the tokens is reported."""
    records = messages("k")
    records[2][5] += 1
    assert check(handed(journal("k")), Events(), [session(records)]).count("lost")


def test_two_runs_in_one_text_are_reported() -> None:
    """A text that begins as one run's and goes on as the next one's is a mix; each by itself is none."""
    runs = handed(journal("k", end=None), journal("other", began=BEGAN + 1))
    mixed = messages("k", count=3, end="")[:3] + messages("other")[3:]
    fitting = [record for record in mixed if record[0] != "item"]
    _refit(fitting)
    assert check(runs, Events(), [session(fitting)]).violations[0].fault == "mixed"
    reset = ["reset", "1-10", "s", "run"]
    verdict = check(runs, Events(), [session([*messages("k", end=""), reset, *messages("other", first=11)])])
    assert verdict.violations == []
    assert verdict.excused.total() == 1


def test_items_stay_from_one_attempt_to_the_next() -> None:
    """The items of an earlier attempt of a task are the run's own, also where they are shown again; a run's are not."""
    runs = handed(journal("k-1", end=None), journal("k-2", began=BEGAN + 1), journal("other", began=BEGAN + 1))
    item, reset = messages("k-1")[4], ["reset", "1-10", "s", "run"]
    item[1] = "1-11"
    for later, count in (("k-2", 0), ("other", 1)):
        again = [*messages("k-1", end=""), reset, item, *messages(later, first=12)]
        assert check(runs, Events(), [session(again)]).count("mixed") == count


def test_a_text_of_another_project_is_reported() -> None:
    """What one project's viewer sees is never another project's text."""
    elsewhere = handed(journal("k", project="q"))
    assert check(elsewhere, Events(), [session(messages("k"))]).count("mixed")


@frozen
class Case:
    """A run that did not end well, what a viewer had of it, and whether that is in order."""

    end: str
    count: int
    events: Events
    is_fine: bool
    ending: str = "closed"


KILLED = Events(killed={"k": BEGAN + 20})
LOST = Events(losses=[[BEGAN + 30, BEGAN + 31]])
KILLED_AND_LOST = Events(killed={"k": BEGAN + 20}, losses=[[BEGAN + 30, BEGAN + 31]])
LOST_AND_KILLED = Events(killed={"k": BEGAN + 20}, losses=[[BEGAN + 8, BEGAN + 9]])
CASES = {
    "a lapsed run has all that was acknowledged": Case("error lease", 4, KILLED, True),
    "a lapsed run may have more": Case("error lease", 6, KILLED, True),
    "a lapsed run may not have less": Case("error lease", 3, KILLED, False),
    "nobody else's run lapses": Case("error lease", 4, Events(), False),
    "not even where Redis lost everything": Case("error lease", 4, LOST, False),
    "what a killed publisher had is gone with Redis": Case("error lease", 0, KILLED_AND_LOST, True),
    "but not where it had put it back": Case("error lease", 3, LOST_AND_KILLED, False),
    "nobody but its publisher says that it is done": Case("done", 4, KILLED, False),
    "a viewer that waits in vain": Case("", 4, KILLED, False, "gave_up"),
    "also after a loss": Case("", 4, KILLED_AND_LOST, False, "gave_up"),
    "a viewer that is told of the loss": Case("reset lost", 4, KILLED_AND_LOST, True, "stream_end"),
    "a viewer that is told of a loss too much": Case("reset lost", 4, LOST, False, "stream_end"),
    "one that comes back after a loss, though its run had not begun": Case("reset lost", 0, LOST, True, "stream_end"),
    "one that is told of a loss which never was": Case("reset lost", 0, Events(), False, "stream_end"),
    "a viewer that is refused": Case("", 4, KILLED, False, "refused 503"),
    "a viewer that leaves": Case("", 2, Events(), True, "left"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_ends_of_runs_that_were_not_finished(case: Case) -> None:
    """What an unfinished run's viewer may have, and how it may end."""
    records = messages("k", count=case.count, end=case.end) if case.count > 3 else messages("k", end=case.end)
    records = [*records[: case.count], *records[-1:]] if case.count <= 3 and case.end else records
    verdict = check(handed(journal("k", end=None)), case.events, [session(records, end=case.ending)])
    assert (verdict.violations == []) is case.is_fine, verdict


def test_each_lapse_shows_what_was_acknowledged_before_one_silence() -> None:
    """A viewer sees a run lapse while its publisher sleeps, go on, and lapse again when it is killed."""
    asleep_then_killed = Events(killed={"k": BEGAN + 40}, asleep={"k": [(BEGAN + 3.5, BEGAN + 12)]})
    runs = handed(journal("k", end=None))  # acknowledged at BEGAN + 5
    early = [*messages("k", end="")[:2], ["error", "1-3", "s", "lease"]]
    assert check(runs, asleep_then_killed, [session(early, ended=BEGAN + 13)]).violations == []
    again = [*early, ["reset", "1-10", "s", "run"], *messages("k", end="error lease", first=11)]
    assert check(runs, asleep_then_killed, [session(again)]).violations == []
    too_little = [
        *early,
        ["reset", "1-10", "s", "run"],
        *messages("k", end="", first=11)[:2],
        ["error", "1-20", "s", "lease"],
    ]
    assert check(runs, asleep_then_killed, [session(too_little)]).count("lost")


def test_a_refused_token_is_not_part_of_the_text() -> None:
    """A token that the publisher was told is refused was never handed over."""
    lines = journal("k", end=None)
    lines[3:3] = [
        json.dumps({"key": "k", "at": 1, **entry}) + "\n" for entry in ({"token": "no"}, {"refused": "token"})
    ]
    assert handed(lines)["k"].text == handed(journal("k"))["k"].text
    assert handed([*lines, '{"key": "k", "tok'])["k"].demanded == handed(journal("k", end=None))["k"].demanded


def test_what_took_part_is_counted() -> None:
    """Sessions, runs, tokens, messages and ends are counted, for a soak in which nothing happens must not pass."""
    verdict: Verdict = check(handed(journal("k")), Events(), [session(messages("k")), session([], end="left")])
    assert (verdict.texts, verdict.tokens, verdict.shown) == (1, 6, 8)
    assert verdict.sessions == {"closed": 1, "left": 1}
    assert verdict.ends == {"done": 1}
