"""The demo's pictures: drawn from a sentence, well-formed, and safe whatever the sentence."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.entrypoints.demo.drawing import draw, wrapped
from stagecast.entrypoints.demo.scene import HOURS, PLACES, THINGS, WEATHERS, Scene, read_scene, read_scenes

SVG = "{http://www.w3.org/2000/svg}"


def drawn(sentence: str) -> ElementTree.Element:
    return ElementTree.fromstring(draw(sentence, read_scene(sentence)))


@pytest.mark.parametrize(
    "hostile",
    [
        '<script>alert(1)</script> & "quotes"',
        "]]> <![CDATA[ x ]]> <!-- -->",
        "a\x00b\x0bc\ufffe\ud800",
        "<image href='http://example.com/x'/> &xxe; %SYSTEM",
        "'/><svg onload='alert(1)'>",
    ],
)
def test_hostile_text_stays_text(hostile: str) -> None:
    """The picture is well-formed XML in which the sentence is text: no script, no handler, no reference outwards."""
    root = drawn(hostile)
    tags = {element.tag for element in root.iter()}
    attributes = {name for element in root.iter() for name in element.attrib}
    assert not tags & {f"{SVG}script", f"{SVG}image", f"{SVG}foreignObject", f"{SVG}a"}
    assert not [name for name in attributes if name.startswith("on") or "href" in name]


@given(st.text())
def test_any_text_makes_a_well_formed_picture(text: str) -> None:
    """Whatever the user pastes."""
    drawn(text)


def test_the_caption_is_in_the_picture() -> None:
    """The whole sentence is its title, and its words are lettered in it."""
    sentence = "夜里下起了雪，灯塔像一支慢慢融化的蜡烛 & more."
    root = drawn(sentence)
    assert root.findtext(f"{SVG}title") == sentence
    lettered = "".join(element.text or "" for element in root.iter(f"{SVG}text"))
    assert "灯塔像一支慢慢融化的蜡烛" in lettered
    assert "& more." in lettered


def test_the_same_sentence_gives_the_same_picture() -> None:
    """Drawing is deterministic, and another sentence gives another picture."""
    first, second = "The boat sailed at night.", "The fox slept in the forest."
    assert draw(first, read_scene(first)) == draw(first, read_scene(first))
    assert draw(first, read_scene(first)) != draw(second, read_scene(second))


@pytest.mark.parametrize("hour", HOURS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("weather", ["clear", *WEATHERS])
def test_every_scene_can_be_drawn_in_a_modest_size(hour: str, place: str, weather: str) -> None:
    """Each combination is well-formed, and small enough for an item's metadata."""
    scene = Scene(seed=7, hour=hour, weather=weather, place=place, things=tuple(THINGS), emoji=("🌊", "👩‍🚀", "🏮"))
    picture = draw("A boat.", scene)
    ElementTree.fromstring(picture)
    assert len(picture.encode()) < 40_000


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("A boat sailed at midnight in the snow.", ("night", "snow", "sea", ("boat",))),
        ("夜里，雨中的城市。", ("night", "rain", "city", ())),
        ("Eagles flew over the mountains at dawn.", ("dawn", "clear", "mountains", ("birds",))),
    ],
)
def test_a_scene_is_read_from_the_words(sentence: str, expected: tuple[str, str, str, tuple[str, ...]]) -> None:
    """English words, singular and plural, and Chinese ones."""
    scene = read_scene(sentence)
    assert (scene.hour, scene.weather, scene.place, scene.things) == expected


def test_a_scene_goes_on_where_a_sentence_says_nothing() -> None:
    """Hour and place are taken over from the sentence before."""
    scenes = read_scenes(["A ship at dusk.", "Nobody spoke."])
    assert (scenes[1].hour, scenes[1].place) == ("dusk", "sea")


def test_emoji_are_found_as_they_are_seen() -> None:
    """A joined emoji, one with a skin tone, a flag: each is one figure."""
    assert read_scene("👩‍🚀 and 👍🏽 under 🇫🇷").emoji == ("👩‍🚀", "👍🏽", "🇫🇷")


@given(st.text(alphabet=st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=400))
def test_captions_have_at_most_three_lines(text: str) -> None:
    """However long a word or a sentence is."""
    assert 1 <= len(wrapped(text)) <= 3
