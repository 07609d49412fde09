"""Draws a scene as an SVG picture with its sentence as caption. Pure: the same sentence always gives the same picture.

Numbers and colours come from here; of the user's text only the caption and emoji are written, escaped.
"""

import math
import random
import re
from collections.abc import Iterator
from xml.sax.saxutils import escape

from .landscape import HEIGHT, PALETTES, WIDTH, foreground, ground, sky
from .scene import Scene

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_UNITS = 44
_LINES = 3
_FONT = "Georgia, 'Liberation Serif', 'Noto Serif CJK SC', 'Songti SC', 'Noto Color Emoji', serif"


def draw(caption: str, scene: Scene) -> str:
    """The picture as the text of an SVG document."""
    dice = random.Random(scene.seed)  # noqa: S311  the same seed, the same picture
    colors = PALETTES[scene.hour]
    text = _NOT_XML.sub("\ufffd", " ".join(caption.split()))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img">',
        f"<title>{escape(text)}</title>",
        "<defs>",
        _gradient("sky", (colors.zenith, colors.middle, colors.horizon)),
        _gradient("ground", (colors.ground, colors.near)),
        _gradient("shade", ("#000", "#000"), opacities=(0, 0.78)),
        f'<radialGradient id="glow"><stop stop-color="{colors.light}" stop-opacity=".85"/>'
        f'<stop offset="1" stop-color="{colors.light}" stop-opacity="0"/></radialGradient>',
        "</defs>",
        *sky(scene, colors, dice),
        *ground(scene, colors, dice),
        *foreground(scene, colors, dice),
        *_actors(scene, dice),
        *_caption(text),
        "</svg>",
    ]
    return "".join(parts)


def _gradient(name: str, stops: tuple[str, ...], opacities: tuple[float, ...] = ()) -> str:
    last = len(stops) - 1
    marks = "".join(
        f'<stop offset="{index / last:g}" stop-color="{color}"'
        + (f' stop-opacity="{opacities[index]:g}"' if opacities else "")
        + "/>"
        for index, color in enumerate(stops)
    )
    return f'<linearGradient id="{name}" x2="0" y2="1">{marks}</linearGradient>'


def _actors(scene: Scene, dice: random.Random) -> Iterator[str]:
    """The sentence's emoji, as the figures of the picture."""
    for index, emoji in enumerate(scene.emoji):
        x = WIDTH * (0.34, 0.62, 0.5)[index] + dice.uniform(-12, 12)
        size = 58 - 8 * index
        yield (
            f'<ellipse cx="{x:.0f}" cy="215" rx="{size * 0.42:.0f}" ry="5" fill="#000" opacity=".22"/>'
            f'<text x="{x:.0f}" y="{208 - 6 * index}" font-size="{size}" text-anchor="middle" '
            f"font-family=\"'Noto Color Emoji','Apple Color Emoji','Segoe UI Emoji',sans-serif\">{escape(emoji)}</text>"
        )


def _caption(text: str) -> Iterator[str]:
    lines = wrapped(text)
    size = 20
    top = HEIGHT - 16 - (len(lines) - 1) * (size + 6)
    yield f'<rect y="{HEIGHT - 150}" width="{WIDTH}" height="150" fill="url(#shade)"/>'
    for index, line in enumerate(lines):
        yield (
            f'<text x="{WIDTH / 2:g}" y="{top + index * (size + 6)}" font-size="{size}" text-anchor="middle" '
            f'fill="#fff" font-family="{_FONT}">{escape(line)}</text>'
        )


def wrapped(text: str) -> list[str]:
    """`text` in at most three lines of the picture's width, cut with an ellipsis where it is longer."""
    pieces = re.findall(
        r"\s*[\u2e80-\u9fff\uf900-\ufaff\uff00-\uff60]|\s*[^\s\u2e80-\u9fff\uf900-\ufaff\uff00-\uff60]+", text
    )
    pieces = [part for piece in pieces for part in _cut(piece)]
    total = sum(map(_units, pieces))
    rows = min(max(math.ceil(total / _LINE_UNITS), 1), _LINES)
    target = min(_LINE_UNITS, total / rows + 6)
    lines = [""]
    for piece in pieces:
        if lines[-1] and _units(lines[-1]) + _units(piece) > target and piece.lstrip() not in _CLOSING:
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], lines[_LINES - 1] + "…"]
    return lines


_CLOSING = frozenset("，。！？；：、”’」』）")


def _cut(piece: str) -> list[str]:
    return [piece[start : start + _LINE_UNITS] for start in range(0, len(piece), _LINE_UNITS)]


def _units(text: str) -> int:
    return sum(2 if ord(character) > 0x2E7F else 1 for character in text)
