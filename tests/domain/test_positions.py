"""Positions: their text form, their order, and what is no position."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.domain.errors import InvalidPosition
from stagecast.domain.positions import Position

NUMBERS = st.integers(0, 2**63 - 1)
POSITIONS = st.builds(Position, NUMBERS, NUMBERS)


@given(POSITIONS)
def test_text_form_is_read_back(position: Position) -> None:
    """What str() writes, parse() reads."""
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "1",
        "1-",
        "-1",
        "1-2-3",
        "a-b",
        "1-x",
        " 1-2",
        "1-2 ",
        "1-2\n",
        "01-2",
        "1-02",
        "+1-2",
        "1--2",
        "1.0-2",
        "1_0-2",
        "١-٢",
        "$",
        "0-0,1-1",
        "9223372036854775808-0",
        "0-9223372036854775808",
        "1-" + "9" * 400,
        "\x00",
    ],
)
def test_what_is_no_position_is_refused(text: str) -> None:
    """Anything but the exact form is InvalidPosition, a ValueError, with at most a part of the text in its message."""
    with pytest.raises(InvalidPosition, match="not a position") as caught:
        Position.parse(text)
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 120


@given(st.text())
def test_parsing_raises_nothing_else(text: str) -> None:
    """Whatever a browser sends as Last-Event-ID is a position or InvalidPosition."""
    with suppress(InvalidPosition):
        assert str(Position.parse(text)) == text


@given(POSITIONS, POSITIONS)
def test_order_is_by_epoch_and_number(one: Position, other: Position) -> None:
    """Positions are totally ordered, first by epoch."""
    assert (one < other) == ((one.epoch, one.n) < (other.epoch, other.n))


def test_following() -> None:
    """Only the next number of the same epoch follows."""
    position = Position(7, 3)
    assert Position(7, 4).follows(position)
    for other in (Position(7, 3), Position(7, 5), Position(7, 2), Position(8, 4), Position(8, 0)):
        assert not other.follows(position)
