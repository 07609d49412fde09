"""What callers hand over, made fit for JSON: numbers finite, text encodable, foreign number types plain."""

import datetime as dt
import logging
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from uuid import UUID

from .errors import EventTooLarge, InvalidEvent
from .events import JSON
from .text import is_sound, repaired

logger = logging.getLogger("stagecast.values")

MAX_DEPTH = 64
_INT_LIMIT = 2**63


class _Budget:
    """What a value may still have: each part, and each character of its texts, is a byte of JSON at least.

    Depth alone bounds nothing: a list that has another twice, which has another twice, has 2**60 parts at depth 60.
    """

    __slots__ = ("left", "most")

    def __init__(self, most: int) -> None:
        self.left = self.most = most

    def spend(self, cost: int, where: str) -> None:
        self.left -= cost
        if self.left < 0:
            raise EventTooLarge(f"{where} is past the limit of {self.most} bytes")


def plain(value: object, where: str, most: int = 1 << 20) -> JSON:
    """`value` as JSON. `where` names the field in messages.

    NaN and infinities become null and lone surrogates U+FFFD, each with a warning in the log. Decimal, Fraction,
    dates, UUID, Enum, sets, tuples and numpy's scalars and arrays take their plain form; an int beyond 64 bits becomes
    text (no JSON reader keeps it exactly). Raises InvalidEvent for anything else, also where the value's own code does,
    and EventTooLarge for what has surely more than `most` bytes, without looking at the rest of it.
    """
    if value is None or (type(value) is int and -_INT_LIMIT <= value < _INT_LIMIT):  # most fields of most events
        return value
    try:
        return _plain(value, where, 0, _Budget(most))
    except (InvalidEvent, EventTooLarge):
        raise
    except Exception as error:
        raise InvalidEvent(f"{where} cannot be read: its own code raised {type(error).__name__}") from error


def _plain(value: object, where: str, depth: int, budget: _Budget) -> JSON:
    budget.spend(1 + len(value) if isinstance(value, str) else 1, where)
    if depth > MAX_DEPTH:
        raise InvalidEvent(f"{where} is nested deeper than {MAX_DEPTH} levels")
    match value:
        case None | bool():
            return value
        case Enum():
            return _plain(value.value, where, depth + 1, budget)
        case str():
            return sound(value, where)
        case int():
            return int(value) if -_INT_LIMIT <= value < _INT_LIMIT else str(value)
        case float() | Decimal() | Fraction():
            return finite(value, where)
        case dt.date() | dt.time():
            return value.isoformat()
        case UUID():
            return str(value)
        case Mapping():
            plain_items = ((_key(key, where, budget), item) for key, item in value.items())
            return {key: _plain(item, f"{where}.{key}"[:200], depth + 1, budget) for key, item in plain_items}
        case list() | tuple() | set() | frozenset():
            return [_plain(item, f"{where}[{index}]"[:200], depth + 1, budget) for index, item in enumerate(value)]
    tolist = getattr(value, "tolist", None)  # numpy's scalars and arrays, and whatever imitates them
    if callable(tolist):
        listed = tolist()
        if isinstance(listed, str | int | float | Iterable) and type(listed) is not type(value):
            return _plain(listed, where, depth + 1, budget)
    raise InvalidEvent(f"{where} is of type {type(value).__name__}, which has no JSON form")


def _key(key: object, where: str, budget: _Budget) -> str:
    text = str(key)
    budget.spend(len(text), where)
    return sound(text, where)


def finite(value: float | Decimal | Fraction, where: str) -> float | None:
    """`value` as a finite float; None, with a warning, for NaN, infinities and what overflows a float."""
    try:
        number = float(value)
    except (OverflowError, ValueError):
        number = math.nan
    if math.isfinite(number):
        return number
    logger.warning("%s is not a finite number; null is sent instead", where)
    return None


def sound(text: str, where: str) -> str:
    """`text` with the halves of surrogate pairs joined, and lone ones replaced by U+FFFD, with a warning."""
    if is_sound(text):
        return text
    joined = repaired(text)
    if joined.count("\ufffd") > text.count("\ufffd"):
        logger.warning("%s has a lone surrogate; U+FFFD is sent instead", where)
    return joined


def percentage(current: object, total: object) -> int:
    """`int(current / total * 100)` within 0 to 100; 0 where total is 0 or either is not a finite number."""
    try:
        done, of = float(current), float(total)  # type: ignore[arg-type]
        percent = done / of * 100 if of else 0.0
    except (TypeError, ValueError, OverflowError):
        return 0
    return int(min(max(percent, 0.0), 100.0)) if math.isfinite(percent) else 0
