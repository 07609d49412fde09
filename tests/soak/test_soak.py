"""A minute of the soak; `make soak` runs half an hour of it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.soak import FEWEST, LONG, too_few
from tests.soak.watching import MEGABYTE, Memory

ROOT = Path(__file__).parents[2]
SECONDS = 60
PATIENCE = 300
"""Seconds that all of it may take on a busy machine."""


@pytest.mark.timeout(400)
def test_nothing_is_lost_or_left_behind_while_everything_is_broken() -> None:
    """A minute in which Redis, servers, workers and connections die at random.

    Every viewer has exactly what was acknowledged, once and in order; nobody waits for ever; nothing is left behind.
    """
    command = [sys.executable, "-m", "tests.soak", "--seconds", str(SECONDS)]
    soak = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output, _ = soak.communicate(timeout=PATIENCE)
    except BaseException:
        soak.send_signal(signal.SIGINT)  # so that it ends what it has started
        soak.wait(60)
        raise
    assert soak.returncode == 0, output


@pytest.mark.parametrize("seconds", [SECONDS, LONG])
def test_a_soak_in_which_too_little_is_broken_fails(seconds: float) -> None:
    """Without faults a soak proves nothing; half an hour must have all kinds, a minute most of them."""
    kinds = [str(number) for number in range(17)]
    assert too_few(dict.fromkeys(kinds, 0), seconds)
    assert not too_few(dict.fromkeys(kinds, 1), seconds)
    most = {kind: int(number < FEWEST) for number, kind in enumerate(kinds)}
    assert bool(too_few(most, seconds)) is (seconds == LONG)


def test_memory_that_grows_is_noticed() -> None:
    """Memory is flat where the last third's median is about the first third's; one peak is no growth."""
    memory = Memory()
    memory.samples["flat"] = [50 * MEGABYTE] * 20 + [500 * MEGABYTE] + [55 * MEGABYTE] * 9
    memory.samples["leaky"] = [number * 10 * MEGABYTE for number in range(1, 31)]
    assert [one.split(":")[0] for one in memory.grown()] == ["leaky"]
