"""Who may judge a lease: only one who watched it, uninterrupted, for a whole lease time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.domain.leases import LeaseWatch

KEY = ("project", "stage", "run")


def looked(watch: LeaseWatch, now: float, beats: dict[str, int]) -> bool:
    watch.begin(now)
    return watch.lapsed(KEY, beats)


def test_a_lease_that_stands_still_for_a_lease_time_has_lapsed() -> None:
    """Watched at short intervals and never renewed, it lapses once the lease time is over, not before."""
    watch = LeaseWatch(10.0)
    seen = [looked(watch, now, {"p": 7}) for now in (0.0, 4.0, 8.0, 9.9, 10.0)]
    assert seen == [False, False, False, False, True]


def test_each_renewal_begins_the_time_anew() -> None:
    """A new beat is a sign of life."""
    watch = LeaseWatch(10.0)
    seen = [looked(watch, now, {"p": int(now) // 6}) for now in (0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 21.0)]
    assert not any(seen)


def test_one_living_producer_is_enough() -> None:
    """As long as one of the leases is renewed, none has lapsed; a new one counts as a renewal."""
    watch = LeaseWatch(10.0)
    assert not any(looked(watch, now, {"dead": 1, "living": int(now)}) for now in (0.0, 4.0, 8.0, 12.0))
    assert not looked(watch, 16.0, {"dead": 1, "living": 12, "new": 1})
    assert not looked(watch, 20.0, {"dead": 1, "living": 12, "new": 1})
    assert looked(watch, 26.0 - 2.0, {"dead": 1, "living": 12, "new": 1}) is False
    assert looked(watch, 26.0, {"dead": 1, "living": 12, "new": 1})


@pytest.mark.parametrize("pause", [5.1, 60.0, 10_000.0])
def test_a_late_look_judges_nothing(pause: float) -> None:
    """A watcher that was paused for more than half a lease time begins its watch anew."""
    watch = LeaseWatch(10.0)
    assert not looked(watch, 0.0, {"p": 1})
    assert not looked(watch, 4.0, {"p": 1})
    assert not looked(watch, 4.0 + pause, {"p": 1})
    assert not looked(watch, 8.0 + pause, {"p": 1})
    assert not looked(watch, 12.0 + pause, {"p": 1})
    assert looked(watch, 14.0 + pause, {"p": 1})


def test_an_interruption_judges_nothing() -> None:
    """After the bus was away, or another life of its log has begun, the watch begins anew."""
    watch = LeaseWatch(10.0)
    for now in (0.0, 4.0, 8.0):
        assert not looked(watch, now, {"p": 1})
    watch.interrupt()
    assert not looked(watch, 10.0, {"p": 1})
    assert not looked(watch, 14.0, {"p": 1})
    assert not looked(watch, 18.0, {"p": 1})
    assert looked(watch, 20.0, {"p": 1})


def test_runs_are_watched_apart() -> None:
    """Each run has its own time."""
    watch = LeaseWatch(10.0)
    other = ("project", "stage", "other")
    watch.begin(0.0)
    assert not watch.lapsed(KEY, {"p": 1})
    watch.begin(4.0)
    assert not watch.lapsed(other, {"p": 1})
    watch.begin(9.0)
    watch.begin(10.0)
    assert watch.lapsed(KEY, {"p": 1})
    assert not watch.lapsed(other, {"p": 1})


def test_runs_that_are_gone_are_forgotten() -> None:
    """A run that comes back under the same key is watched from then on."""
    watch = LeaseWatch(10.0)
    for now in (0.0, 4.0, 8.0):
        assert not looked(watch, now, {"p": 1})
    watch.keep(set())
    assert not looked(watch, 12.0, {"p": 1})
    watch.keep({KEY})
    assert not looked(watch, 16.0, {"p": 1})
    assert not looked(watch, 20.0, {"p": 1})
    assert looked(watch, 22.0, {"p": 1})


@given(st.lists(st.floats(0.0, 30.0), min_size=1, max_size=60))
def test_nobody_is_judged_who_was_seen_alive_within_a_lease_time(steps: list[float]) -> None:
    """Whatever the times of the looks, a producer that renews within a lease time never loses its run."""
    watch, now = LeaseWatch(10.0), 0.0
    for step in steps:
        now += step
        assert not looked(watch, now, {"p": int(now // 9.9)})
