"""How long to wait before trying again to reach what is away."""

import math
import random


def pause(failures: int, longest: float) -> float:
    """Seconds to wait after `failures` failures in a row: doubling from 0.1, at most `longest`, at random by a half.

    At random, so that the many who lost the same server do not all come back to it at once.
    """
    return min(math.ldexp(0.05, min(failures, 10)), longest) * random.uniform(0.5, 1.0)  # noqa: S311
