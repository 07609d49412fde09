"""What callers hand over becomes JSON, or a clear refusal."""

import datetime as dt
import json
import logging
import math
from collections import OrderedDict
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.domain.errors import EventTooLarge, InvalidEvent
from stagecast.domain.values import MAX_DEPTH, finite, percentage, plain, sound

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


class Colour(Enum):
    RED = "red"


class Number(IntEnum):
    SEVEN = 7


class Scalar:
    """Imitates a numpy scalar or array."""

    def __init__(self, value: object) -> None:
        self.value = value

    def tolist(self) -> object:
        return self.value


class Mischievous:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@given(JSON_VALUES)
def test_json_values_stay_as_they_are(value: Any) -> None:
    """What JSON can carry is not changed."""
    assert plain(value, "value") == value
    assert json.loads(json.dumps(plain(value, "value"), allow_nan=False)) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("0.5"), 0.5),
        (Fraction(1, 4), 0.25),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC), "2026-01-02T03:00:00+00:00"),
        (dt.time(3, 4), "03:04:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        (Number.SEVEN, 7),
        ((1, 2), [1, 2]),
        (frozenset({1}), [1]),
        (OrderedDict(a=1), {"a": 1}),
        ({1: "one", None: "none"}, {"1": "one", "None": "none"}),
        (2**63, str(2**63)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        (Scalar(7), 7),
        (Scalar([1, [2.5]]), [1, [2.5]]),
        (Scalar(math.nan), None),
        ({"deep": [Decimal(1), {"set": {2}}]}, {"deep": [1.0, {"set": [2]}]}),
    ],
)
def test_foreign_types_take_their_plain_form(value: object, expected: object) -> None:
    """Numbers of all kinds, dates, ids, enumerations and containers need no conversion by the caller."""
    assert plain(value, "value") == expected
    json.dumps(plain(value, "value"), allow_nan=False)


def test_real_subclasses_of_numbers_become_plain() -> None:
    """An IntEnum member is sent as its number, not as an object that an encoder may refuse."""
    assert type(plain(Number.SEVEN, "value")) is int


@pytest.mark.parametrize("value", [object(), Mischievous(), b"bytes", 1j, lambda: None, Scalar(object()), int])
def test_what_has_no_json_form_is_refused_by_name(value: object) -> None:
    """The message names the field and the type, and never calls the value's own repr."""
    with pytest.raises(InvalidEvent, match=r"metadata\.images\[1\] is of type \w+, which has no JSON form"):
        plain({"images": [0, value]}, "metadata")


def test_one_that_lists_itself_is_refused() -> None:
    """An object whose plain form is of its own kind ends in a refusal, not in a recursion."""
    endless = Scalar(None)
    endless.value = endless
    with pytest.raises(InvalidEvent):
        plain(endless, "value")


def test_endless_nesting_is_refused() -> None:
    """A list that contains itself ends in a refusal at a fixed depth."""
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(InvalidEvent, match=f"deeper than {MAX_DEPTH}"):
        plain(endless, "value")
    mapping: dict[str, object] = {}
    mapping["k" * 300] = mapping
    with pytest.raises(InvalidEvent, match="deeper"):
        plain(mapping, "value")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, Decimal("NaN"), Decimal("1e999"), Decimal("sNaN")])
def test_what_is_not_finite_becomes_null_with_a_warning(
    value: float | Decimal, caplog: pytest.LogCaptureFixture
) -> None:
    """One bad number costs its own field and nothing else."""
    with caplog.at_level(logging.WARNING, "stagecast.values"):
        assert plain({"good": 1, "bad": value}, "metadata") == {"good": 1, "bad": None}
    assert caplog.messages == ["metadata.bad is not a finite number; null is sent instead"]


def test_huge_fractions_become_null() -> None:
    """What overflows a float is no error."""
    assert finite(Fraction(10**400), "value") is None


def test_lone_surrogates_are_replaced_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Pairs are joined in silence; only a lone half is worth a warning. Keys are repaired too."""
    with caplog.at_level(logging.WARNING, "stagecast.values"):
        assert sound("\ud83d\ude00", "content") == "😀"
        assert not caplog.messages
        assert plain({"k\ud800": "v\udc00"}, "metadata") == {"k\ufffd": "v\ufffd"}
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(
    ("current", "total", "percent"),
    [
        (3, 10, 30),
        (1, 3, 33),
        (2, 3, 66),
        (0, 0, 0),
        (5, 0, 0),
        (0, 10, 0),
        (10, 10, 100),
        (11, 10, 100),
        (-1, 10, 0),
        (1, -10, 0),
        (Decimal(1), Decimal(3), 33),
        (None, 10, 0),
        ("4", 10, 40),
        ("x", 10, 0),
        (math.nan, 10, 0),
        (math.inf, 10, 0),
        (1, math.inf, 0),
        pytest.param(10**400, 1, 0, id="beyond-a-float"),
    ],
)
def test_percentages_are_whole_and_within_bounds(current: object, total: object, percent: int) -> None:
    """`int(current / total * 100)`, 0 where total is 0, never outside 0 to 100, never an error."""
    assert percentage(current, total) == percent


def _doubled(value: Any, times: int) -> Any:
    """`value` in a list twice, that list in a list twice, and so on."""
    for _ in range(times):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("small", "large"),
    [
        (_doubled(1, 5), _doubled(1, 60)),
        (["x" * 60], ["x" * 100]),
        ({"k" * 60: 1}, {"k" * 100: 1}),
        (dict.fromkeys(range(20), 1), dict.fromkeys(range(100), 1)),
        ([["x" * 30]] * 2, [["x" * 30]] * 1000),
        (Scalar([1] * 50), Scalar([1] * 1000)),
    ],
    ids=["doubled", "text", "key", "keys", "again", "array"],
)
def test_what_is_surely_too_large_is_not_read_to_its_end(small: Any, large: Any) -> None:
    """However a value's parts, keys and texts come to more than the limit, it is refused by name, and at once."""
    plain({"a": small}, "metadata", 80)
    with pytest.raises(EventTooLarge, match=r"metadata\.a.* is past the limit of 80 bytes"):
        plain({"a": large}, "metadata", 80)


@given(JSON_VALUES)
def test_nothing_is_refused_that_would_fit(value: Any) -> None:
    """The limit counts less than the JSON has, never more."""
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    assert plain(value, "value", size) == value
