"""The parts of a picture: sky, ground and what stands in front. Pure functions from a scene to SVG elements."""

import math
import random
from collections.abc import Iterator

from attrs import frozen

from .scene import Scene

WIDTH, HEIGHT = 480, 320
HORIZON = 190


@frozen
class Palette:
    """The colours of an hour, from the top of the sky to what is near."""

    zenith: str
    middle: str
    horizon: str
    light: str
    far: str
    ground: str
    near: str
    lit: str
    """What has a light of its own: windows, lanterns, stars."""


PALETTES = {
    "dawn": Palette("#3b4a86", "#c47a9b", "#ffd3a5", "#fff1d0", "#8b6f9e", "#6d6a9c", "#2d2a4a", "#ffe3a8"),
    "day": Palette("#2f80c9", "#79bdea", "#dff3ff", "#fffbe0", "#7fa9c4", "#3f8f9a", "#1d4f5c", "#fff3b0"),
    "dusk": Palette("#2b1b4d", "#a3386c", "#ff9a56", "#ffd9a0", "#6a3160", "#5a2f5e", "#1e1030", "#ffc46b"),
    "night": Palette("#050a24", "#12225a", "#34508f", "#f2f4ff", "#1c2d61", "#14234f", "#060b1f", "#ffd97a"),
}


def sky(scene: Scene, colors: Palette, dice: random.Random) -> Iterator[str]:
    """The sky with its sun or moon, stars and clouds."""
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="url(#sky)"/>'
    if scene.hour == "night":
        yield from _dots(dice, 70, "#fff", (0.4, 1.5), HORIZON - 10)
    x = dice.uniform(0.15, 0.85) * WIDTH
    y = {"dawn": 165, "day": 62, "dusk": 172, "night": 66}[scene.hour] + dice.uniform(-10, 10)
    size = {"dawn": 34, "day": 26, "dusk": 40, "night": 24}[scene.hour]
    yield f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{size * 4}" fill="url(#glow)"/>'
    if scene.hour == "night":
        yield (
            f'<path d="M{x:.0f} {y - size:.0f}a{size} {size} 0 1 0 {size} {size + 4}'
            f'a{size * 0.8:.0f} {size * 0.8:.0f} 0 0 1 -{size} -{size + 4}Z" fill="{colors.light}"/>'
        )
    else:
        yield f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{size}" fill="{colors.light}"/>'
    for _ in range({"clear": 3, "mist": 5}.get(scene.weather, 7)):
        yield _cloud(dice.uniform(0, WIDTH), dice.uniform(30, 130), dice.uniform(0.5, 1.2), scene.hour)


def ground(scene: Scene, colors: Palette, dice: random.Random) -> Iterator[str]:
    """The distance, in layers that grow darker, and the land or water before it."""
    height = {"mountains": 105, "sea": 26, "city": 40, "desert": 34, "forest": 60, "meadow": 46}[scene.place]
    for layer in range(3):
        base = HORIZON + 8 * layer
        yield _ridge(
            base, height * (1 - layer * 0.28), colors.far, 0.35 + 0.2 * layer, dice, sharp=scene.place == "mountains"
        )
    yield f'<rect y="{HORIZON + 8}" width="{WIDTH}" height="{HEIGHT - HORIZON}" fill="url(#ground)"/>'
    if scene.place == "sea":
        yield from _water(colors, dice)
    elif scene.place in {"desert", "meadow"}:
        for layer in range(3):
            yield _ridge(HORIZON + 28 + 26 * layer, 22, (colors.far, colors.ground, colors.near)[layer], 0.75, dice)


def foreground(scene: Scene, colors: Palette, dice: random.Random) -> Iterator[str]:
    """What belongs to the place, what the sentence names, and the weather in front of it all."""
    if scene.place == "city":
        yield from _city(scene, colors, dice)
    if scene.place == "forest":
        yield from _trees(colors, dice, 17, 110)
    if scene.place == "meadow":
        yield from _flowers(colors, dice)
    if scene.place == "mountains":
        yield from _trees(colors, dice, 9, 48)
    for thing in scene.things:
        yield from _THINGS[thing](scene, colors, dice)
    yield from _weather(scene, dice)


def _cloud(x: float, y: float, scale: float, hour: str) -> str:
    tone, opacity = ("#9fb0e6", 0.16) if hour == "night" else ("#fff", 0.42)
    puffs = ((0, 0, 26, 9), (18, -6, 18, 9), (-18, -4, 16, 7), (36, 1, 18, 7))
    shapes = "".join(
        f'<ellipse cx="{x + dx * scale:.0f}" cy="{y + dy * scale:.0f}" rx="{rx * scale:.0f}" ry="{ry * scale:.0f}"/>'
        for dx, dy, rx, ry in puffs
    )
    return f'<g fill="{tone}" opacity="{opacity}">{shapes}</g>'


def _ridge(base: float, height: float, color: str, opacity: float, dice: random.Random, *, sharp: bool = False) -> str:
    phase, waves = dice.uniform(0, math.tau), dice.uniform(1.2, 2.4)
    points = []
    step = 24 if sharp else 12
    for x in range(-step, WIDTH + 2 * step, step):
        swell = math.sin(phase + x / WIDTH * math.tau * waves) * 0.5 + 0.5
        rough = dice.uniform(-0.35, 0.35) if sharp else math.sin(phase * 3 + x / 41) * 0.12
        points.append(f"{x},{base - height * max(swell * 0.8 + rough + 0.15, 0.02):.1f}")
    return f'<polygon points="0,{HEIGHT} {" ".join(points)} {WIDTH},{HEIGHT}" fill="{color}" opacity="{opacity:g}"/>'


def _water(colors: Palette, dice: random.Random) -> Iterator[str]:
    for _ in range(46):
        depth = dice.random() ** 1.6
        x, y, length = dice.uniform(0, WIDTH), HORIZON + 12 + depth * 110, 8 + depth * 46
        yield (
            f'<path d="M{x:.0f} {y:.0f}q{length / 4:.0f} -3 {length / 2:.0f} 0t{length / 2:.0f} 0" fill="none" '
            f'stroke="{colors.light}" stroke-width="{0.7 + depth:.1f}" opacity="{dice.uniform(0.1, 0.4):.2f}"/>'
        )


def _city(scene: Scene, colors: Palette, dice: random.Random) -> Iterator[str]:
    x = -8.0
    bright = 0.75 if scene.hour in {"night", "dusk"} else 0.25
    while x < WIDTH:
        width, height = dice.uniform(26, 52), dice.uniform(48, 140)
        top = HORIZON + 40 - height
        yield f'<rect x="{x:.0f}" y="{top:.0f}" width="{width:.0f}" height="{height + 60:.0f}" fill="{colors.near}"/>'
        for row in range(int(height // 14)):
            for column in range(int(width // 10) - 1):
                if dice.random() < bright * 0.6:
                    yield (
                        f'<rect x="{x + 6 + column * 10:.0f}" y="{top + 8 + row * 14:.0f}" width="4" height="6" '
                        f'fill="{colors.lit}" opacity="{dice.uniform(0.4, 1):.2f}"/>'
                    )
        x += width + dice.uniform(0, 5)


def _trees(colors: Palette, dice: random.Random, count: int, height: float) -> Iterator[str]:
    for index in range(count):
        x, tall = WIDTH * (index + dice.uniform(0.1, 0.9)) / count, height * dice.uniform(0.55, 1.15)
        foot = HORIZON + 26 + dice.uniform(0, 26)
        layers = "".join(
            f"M{x - tall * (0.14 + 0.06 * level):.0f} {foot - tall * (0.62 - 0.27 * level):.0f}"
            f"L{x:.0f} {foot - tall * (1 - 0.24 * level):.0f}"
            f"L{x + tall * (0.14 + 0.06 * level):.0f} {foot - tall * (0.62 - 0.27 * level):.0f}Z"
            for level in range(3)
        )
        yield f'<path d="{layers}M{x - 2:.0f} {foot - tall * 0.1:.0f}h4v{tall * 0.12:.0f}h-4Z" fill="{colors.near}"/>'


def _flowers(colors: Palette, dice: random.Random) -> Iterator[str]:
    for color in ("#ff9fb2", "#ffe08a", "#ffffff", "#c9a7ff"):
        yield from _dots(dice, 24, color, (2.2, 4.2), HEIGHT, top=HORIZON + 34)


def _dots(
    dice: random.Random, count: int, color: str, sizes: tuple[float, float], bottom: float, top: float = 0.0
) -> Iterator[str]:
    """Round dots of two sizes, in two paths."""
    for size, opacity in zip(sizes, (0.6, 0.95), strict=True):
        points = "".join(f"M{dice.uniform(0, WIDTH):.0f} {dice.uniform(top, bottom):.0f}h0" for _ in range(count // 2))
        yield (
            f'<path d="{points}" stroke="{color}" stroke-width="{2 * size:g}" stroke-linecap="round" '
            f'opacity="{opacity}"/>'
        )


def _lighthouse(scene: Scene, colors: Palette, dice: random.Random) -> Iterator[str]:
    x, foot = WIDTH * dice.choice((0.16, 0.84)), HORIZON + 26
    if scene.hour in {"night", "dusk", "dawn"}:
        far = WIDTH if x < WIDTH / 2 else 0
        yield f'<polygon points="{x},86 {far},40 {far},150" fill="{colors.lit}" opacity=".2"/>'
    yield (
        f'<path d="M{x - 46} {foot + 18}q18 -26 46 -24t46 24Z" fill="{colors.near}"/>'
        f'<path d="M{x - 13} {foot}L{x - 8} 98H{x + 8}L{x + 13} {foot}Z" fill="#f4efe6"/>'
        f'<path d="M{x - 12} {foot - 30}l1 -24h22l1 24ZM{x - 10} {foot - 72}l1 -20h18l1 20Z" fill="#c8453b"/>'
        f'<rect x="{x - 11}" y="94" width="22" height="4" fill="{colors.near}"/>'
        f'<rect x="{x - 6}" y="80" width="12" height="14" fill="{colors.lit}"/>'
        f'<path d="M{x - 9} 80L{x} 68L{x + 9} 80Z" fill="#c8453b"/><circle cx="{x}" cy="87" r="22" fill="url(#glow)"/>'
    )


def _boat(scene: Scene, colors: Palette, dice: random.Random) -> Iterator[str]:
    x, y = WIDTH * dice.uniform(0.42, 0.6), HORIZON + 38
    yield (
        f'<path d="M{x - 44:.0f} {y}L{x - 22:.0f} {y - 20}L{x:.0f} {y - 58}L{x + 22:.0f} {y - 20}L{x + 44:.0f} {y}'
        f'L{x + 22:.0f} {y + 16}H{x - 22:.0f}Z" fill="#fdfbf5"/>'
        f'<path d="M{x:.0f} {y - 58}L{x + 22:.0f} {y - 20}L{x:.0f} {y - 4}Z" fill="#000" opacity=".16"/>'
        f'<path d="M{x - 44:.0f} {y}L{x - 22:.0f} {y - 20}L{x:.0f} {y - 4}L{x + 22:.0f} {y - 20}L{x + 44:.0f} {y}'
        f'L{x:.0f} {y + 6}Z" fill="#000" opacity=".08"/>'
        f'<ellipse cx="{x:.0f}" cy="{y + 19}" rx="52" ry="4" fill="{colors.near}" opacity=".4"/>'
    )


def _lights(scene: Scene, colors: Palette, dice: random.Random) -> Iterator[str]:
    for _ in range(16):
        x, y, size = dice.uniform(10, WIDTH - 10), dice.uniform(110, 250), dice.uniform(1.6, 4)
        yield f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{size * 4:.0f}" fill="{colors.lit}" opacity=".18"/>'
        yield f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{size:.1f}" fill="{colors.lit}"/>'


def _birds(scene: Scene, colors: Palette, dice: random.Random) -> Iterator[str]:
    for _ in range(7):
        x, y, wing = dice.uniform(60, WIDTH - 60), dice.uniform(40, 120), dice.uniform(6, 12)
        yield (
            f'<path d="M{x - wing:.0f} {y - 3:.0f}Q{x - wing / 2:.0f} {y - 8:.0f} {x:.0f} {y:.0f}'
            f'Q{x + wing / 2:.0f} {y - 8:.0f} {x + wing:.0f} {y - 3:.0f}" fill="none" stroke="{colors.near}" '
            f'stroke-width="2" stroke-linecap="round"/>'
        )


def _house(scene: Scene, colors: Palette, dice: random.Random) -> Iterator[str]:
    yield (
        f'<path d="M{WIDTH * 0.5:.0f} {HORIZON + 40}Q{WIDTH * 0.7:.0f} {HORIZON + 4} {WIDTH} {HORIZON}V{HORIZON + 48}'
        f'Q{WIDTH * 0.7:.0f} {HORIZON + 50} {WIDTH * 0.5:.0f} {HORIZON + 40}Z" fill="{colors.near}"/>'
    )
    for index in range(4):
        x, y = WIDTH * (0.68 + 0.085 * index) + dice.uniform(-6, 6), HORIZON + 22 - 4 * index + dice.uniform(-2, 6)
        yield (
            f'<path d="M{x - 15:.0f} {y:.0f}v-16L{x:.0f} {y - 29:.0f}L{x + 15:.0f} {y - 16:.0f}v16Z" '
            f'fill="{colors.near}" stroke="{colors.far}"/>'
            f'<rect x="{x - 4:.0f}" y="{y - 14:.0f}" width="8" height="8" fill="{colors.lit}"/>'
        )


_THINGS = {"lighthouse": _lighthouse, "boat": _boat, "lights": _lights, "birds": _birds, "house": _house}


def _weather(scene: Scene, dice: random.Random) -> Iterator[str]:
    if scene.weather == "snow":
        yield from _dots(dice, 120, "#fff", (1.1, 2.4), HEIGHT - 50)
    elif scene.weather == "rain":
        drops = "".join(f"M{dice.uniform(0, WIDTH):.0f} {dice.uniform(0, HEIGHT - 70):.0f}l-5 16" for _ in range(80))
        yield f'<path d="{drops}" stroke="#dfe9ff" stroke-width="1.2" opacity=".5"/>'
    elif scene.weather == "mist":
        for _ in range(12):
            x, y = dice.uniform(-40, WIDTH + 40), dice.uniform(110, 250)
            wide = dice.uniform(90, 200)
            yield f'<ellipse cx="{x:.0f}" cy="{y:.0f}" rx="{wide:.0f}" ry="13" fill="#fff" opacity=".13"/>'
