"""Reads a sentence as a scene: the hour, the weather, the place and the things in it. Knows no drawing and no wording.

A plain word list, English and Chinese. What a sentence doesn't say is taken over from the sentence before, as a reader
would, and in the end decided by the sentence's hash: the same text always gives the same scenes.
"""

import re
import zlib
from collections.abc import Iterable

from attrs import frozen

HOURS = {
    "dawn": "dawn morning sunrise daybreak 清晨 早晨 早上 黎明 日出",
    "day": "day noon sun sunny midday afternoon summer 白天 中午 阳光 下午 夏",
    "dusk": "dusk evening sunset twilight autumn 黄昏 傍晚 日落 夕阳 秋",
    "night": "night midnight moon star dark dream 夜 午夜 月 星空 黑暗 梦",
}
WEATHERS = {
    "snow": "snow snowed snowflake winter ice 雪 冬 冰",
    "rain": "rain rained storm thunder umbrella 雨 暴风 雷",
    "mist": "mist fog smoke haze 雾 烟",
}
PLACES = {
    "sea": "sea ocean ship boat harbour harbor wave beach island lighthouse river lake water sail "
    "海 船 港 浪 岛 灯塔 河 湖 水",
    "city": "city street town tower train office machine robot computer 城 街 楼 火车 机器",
    "forest": "forest tree wood fox bear leaf leaves garden 森林 树 林 狐 熊 花园",
    "mountains": "mountain hill cliff valley climb eagle 山 峰 悬崖 谷",
    "desert": "desert sand dune camel mars planet 沙漠 沙 骆驼 火星",
    "meadow": "meadow field flower grass farm horse village 草 田 花 农 马 村",
}
THINGS = {
    "lighthouse": "lighthouse 灯塔",
    "boat": "boat ship sail 船 帆",
    "lights": "light lantern lamp candle firefly spark 灯 烛 萤火 火花",
    "birds": "bird gull eagle crow fly flew wing 鸟 鸥 鹰 飞",
    "house": "house home village cottage door window 家 屋 房 村 门",
}

_EMOJI_UNIT = (
    "(?:[\U0001f1e6-\U0001f1ff]{2}|[\u2600-\u27bf\u2b50\u2b55\U0001f300-\U0001f3fa\U0001f400-\U0001faff]"
    "\ufe0f?[\U0001f3fb-\U0001f3ff]?)"
)
EMOJI = re.compile(f"{_EMOJI_UNIT}(?:\u200d{_EMOJI_UNIT})*")
"""One emoji as it is seen: a joined family or a flag is one."""


@frozen(kw_only=True)
class Scene:
    """What a picture of a sentence shows."""

    seed: int
    hour: str
    weather: str
    """A key of WEATHERS, or `clear`."""
    place: str
    things: tuple[str, ...]
    emoji: tuple[str, ...]


def read_scene(sentence: str, before: Scene | None = None) -> Scene:
    """The scene of `sentence`, which follows the scene `before`."""
    words = set(re.findall(r"[a-z]+", sentence.casefold()))
    words |= {word.removesuffix("s") for word in words}
    seed = zlib.crc32(sentence.encode("utf-8", "replace"))
    hour = _first(HOURS, words, sentence) or (before.hour if before else _pick(HOURS, seed))
    place = _first(PLACES, words, sentence) or (before.place if before else _pick(PLACES, seed >> 3))
    weather = _first(WEATHERS, words, sentence) or "clear"
    things = tuple(name for name, named in THINGS.items() if _names(named, words, sentence))
    return Scene(
        seed=seed, hour=hour, weather=weather, place=place, things=things, emoji=tuple(EMOJI.findall(sentence))[:3]
    )


def read_scenes(sentences: Iterable[str]) -> list[Scene]:
    """The scenes of a story, each read after the one before."""
    scenes: list[Scene] = []
    for sentence in sentences:
        scenes.append(read_scene(sentence, scenes[-1] if scenes else None))
    return scenes


def _first(table: dict[str, str], words: set[str], sentence: str) -> str | None:
    return next((name for name, named in table.items() if _names(named, words, sentence)), None)


def _names(named: str, words: set[str], sentence: str) -> bool:
    return any(word in words if word.isascii() else word in sentence for word in named.split())


def _pick(table: dict[str, str], seed: int) -> str:
    return list(table)[seed % len(table)]
