"""What the demo's processes are told by environment variables; the command sets them for its children."""

import os
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from stagecast.adapters import openai
from stagecast.domain.errors import NotConfigured

from .writer import LocalWriter, ModelWriter, Writer

PACE_VARIABLE = "STAGECAST_DEMO_PACE"
INPUT_VARIABLE = "STAGECAST_DEMO_INPUT"
READY_VARIABLE = "STAGECAST_DEMO_READY"
"""A file that the worker makes once it takes tasks."""


@frozen(kw_only=True)
class Setting:
    """What the page shows before anything runs."""

    text: str
    transport: str
    writer: Writer


PACE = 40.0
"""Tokens a second of the writer that is no model, so that its streaming can be seen."""
PICTURE_TOKENS = 24.0
"""A picture takes as long as this many tokens."""

STORY = """\
The lighthouse keeper had not seen a ship for nine days 🌊. 第十天清晨，海面上漂来一只纸船，船头用铅笔写着她的名字。\
 She lit the lamp although the sun was already high, and the paper boat answered with a spark ✨.\
 夜里下起了雪，灯塔像一支慢慢融化的蜡烛🕯️。

By midnight the harbour was full of small lights, and nobody in the village could say who had sent them 🏮.\
 Two gulls flew out to ask "them", and came back with a song 🐦. 第二天傍晚，海又空了，只剩下一条发光的路。\
 But the keeper -- who never smiled -- packed her bag and walked out onto the water 👩‍🚀
"""


def pace(environ: Mapping[str, str] = os.environ) -> float:
    """Tokens a second; 0 for as fast as possible. Raises NotConfigured."""
    text = environ.get(PACE_VARIABLE, "").strip() or str(PACE)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e6:
        raise NotConfigured(f"{PACE_VARIABLE} must be tokens a second, 0 or more, not {text!r}")
    return value


def picture_pause(environ: Mapping[str, str] = os.environ) -> float:
    """Seconds a picture."""
    tokens = pace(environ)
    return PICTURE_TOKENS / tokens if tokens else 0.0


def story(environ: Mapping[str, str] = os.environ) -> str:
    """The text that the page begins with. Raises NotConfigured where the named file cannot be read."""
    if not (name := environ.get(INPUT_VARIABLE, "")):
        return STORY
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotConfigured(f"the input {name} cannot be read as UTF-8 text: {error}") from error


def writer(environ: Mapping[str, str] = os.environ) -> Writer:
    """The configured model at work, else the writer that is none. Raises NotConfigured."""
    model = openai.from_environment(environ)
    return ModelWriter(model) if model else LocalWriter(pace(environ))


def setting(transport: str, environ: Mapping[str, str] = os.environ) -> Setting:
    """What the page shows; `transport` in words. Raises NotConfigured."""
    return Setting(text=story(environ), transport=transport, writer=writer(environ))
