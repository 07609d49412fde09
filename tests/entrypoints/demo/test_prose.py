"""Plain text work for the demo: sentences, tokens, shots."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.entrypoints.demo import prose
from stagecast.entrypoints.demo.prose import Shot
from tests.demo import TEXT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("海很静。船来了！谁在？", ["海很静。", "船来了！", "谁在？"]),
        ('He said "no." Then left.', ['He said "no."', "Then left."]),
        ("It was empty... but calm. Then rain", ["It was empty... but calm.", "Then rain"]),
        ("nine days 🌊. 第十天，船来了。 She", ["nine days 🌊.", "第十天，船来了。", "She"]),
        ("a line\nanother line", ["a line", "another line"]),
        ("  \n … \n—", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    """Sentences end at a full stop of either script before a new beginning, and at a line's end."""
    assert prose.sentences(text) == expected


@given(st.text(alphabet="aB .!…\"'。\n"))
def test_sentences_lose_nothing_but_white_space(text: str) -> None:
    """Whatever the punctuation; only parts without a letter are dropped."""
    letters = [character for character in text if character.isalpha()]
    assert [character for one in prose.sentences(text) for character in one if character.isalpha()] == letters


@given(st.text())
def test_tokens_are_the_text(text: str) -> None:
    """No character is lost between the tokens, whatever the text."""
    assert "".join(prose.tokens(text)) == text


def test_tokens_are_words_and_chinese_characters() -> None:
    """A word comes with the space before it; a Chinese character comes alone; an emoji sequence stays whole."""
    assert prose.tokens("A boat 👩‍🚀。船来") == ["A", " boat", " 👩‍🚀。", "船", "来"]


@given(st.lists(st.text(alphabet="ab", min_size=1), max_size=40))
def test_groups_keep_everything_in_order(items: list[str]) -> None:
    """Grouping joins neighbours and drops nothing."""
    groups = prose.groups(items)
    assert len(groups) <= prose.SHOTS
    assert " ".join(groups).split() == items


@pytest.mark.parametrize(
    ("storyboard", "captions"),
    [
        (
            "Shot 1 [wide shot, static, day, 5 s] A boat.\n镜头 2 [全景, 固定, 夜, 2 秒] 船来了。",
            ["A boat.", "船来了。"],
        ),
        ("Shot 1: A boat.\nShot 2: A light.", ["A boat.", "A light."]),
        ("1. A boat.\n2) A light.\nand some talk", ["A boat.", "A light."]),
        ("A boat came. A light went out.", ["A boat came.", "A light went out."]),
        ("", []),
    ],
)
def test_shots_are_read_whoever_wrote_them(storyboard: str, captions: list[str]) -> None:
    """Numbered lines are shots; a text without any is one shot a sentence."""
    assert prose.shots(storyboard) == [Shot(number, caption) for number, caption in enumerate(captions, start=1)]


def test_there_are_at_most_eight_shots() -> None:
    """However long a model's storyboard gets."""
    assert len(prose.shots("\n".join(f"Shot {n}: boat" for n in range(1, 30)))) == prose.SHOTS


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ('he  said ,  "yes" -- and it\'s ok', "He said, “yes” — and it’s ok."),
        ("wait...", "Wait…"),
        ("用Python写的", "用 Python 写的。"),
        ("smiling 👩‍🚀", "Smiling 👩‍🚀"),
    ],
)
def test_tidy(sentence: str, expected: str) -> None:
    """Spaces, quotes, dashes, the capital and the full stop are made good; words stay."""
    assert prose.tidy(sentence) == expected


def test_breaths_keep_the_words() -> None:
    """A long sentence is broken after its clauses, and only there."""
    sentence = "By midnight the harbour was full of small lights, and nobody in the village knew; the rest slept."
    lines = prose.breaths(sentence)
    assert len(lines) == 2
    assert " ".join(lines) == sentence
    assert prose.breaths("Short, and sweet.") == ["Short, and sweet."]


def test_the_tests_own_text_has_five_sentences() -> None:
    """What other tests of the demo count on."""
    assert len(prose.sentences(TEXT)) == 5
