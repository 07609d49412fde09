"""Plain text work: sentences, shots, tokens, in English and Chinese. Pure functions; no stage and no model."""

import re
from itertools import pairwise

from attrs import frozen

SHOTS = 8
"""The most shots of one storyboard, and pictures of one run."""

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_SENTENCE = re.compile(  # possessive, and only from the first full stop of several: linear whatever the text
    r".+?(?:(?<![.!?…])[.!?…]++[\"'”’)\]]*+(?=\s+[^a-z\s]|\s*$)|[。！？]++[”’」』）]*+|$)"
)
_TOKEN = re.compile(rf"\s*[{_CJK}]|\s*[^\s{_CJK}]+|\s+")
_SHOT = re.compile(r"^\W*(?:shot|scene|镜头|分镜)?\s*\d+\s*(?:\[[^\]]*\])?[\s.:：)、—-]*", re.IGNORECASE)


@frozen
class Shot:
    """One line of a storyboard."""

    number: int
    caption: str


def sentences(text: str) -> list[str]:
    """The sentences of `text`, in order, without white space around them. A line's end is a sentence's end."""
    found = (match.strip() for line in text.splitlines() for match in _SENTENCE.findall(line))
    return [sentence for sentence in found if any(character.isalnum() for character in sentence)]


def is_chinese(text: str) -> bool:
    """Whether most letters of `text` are Chinese."""
    chinese = len(re.findall(f"[{_CJK}]", text))
    return chinese > sum(character.isascii() and character.isalpha() for character in text) / 4


def tokens(text: str) -> list[str]:
    """`text` in pieces as a model would stream it: a word with the space before it, or one Chinese character."""
    return _TOKEN.findall(text)


def groups(items: list[str], most: int = SHOTS) -> list[str]:
    """`items`, joined to at most `most` groups of about the same size."""
    count = min(len(items), most)
    bounds = [len(items) * index // count for index in range(count + 1)] if count else [0]
    return [" ".join(items[start:end]) for start, end in pairwise(bounds)]


def shots(storyboard: str) -> list[Shot]:
    """The shots of a storyboard, whoever wrote it: one a line where lines are numbered, else one a sentence."""
    lines = [line.strip() for line in storyboard.splitlines() if line.strip()]
    numbered = [
        line for line in lines if _SHOT.match(line) and re.match(r"\W*(?:shot|scene|镜头|分镜)?\s*\d", line, re.I)
    ]
    captions = [_SHOT.sub("", line, count=1).strip() for line in numbered] if numbered else sentences(storyboard)
    return [Shot(number, caption) for number, caption in enumerate(filter(None, captions[:SHOTS]), start=1)]


def tidy(sentence: str) -> str:
    """`sentence` with plain typing made good: spaces, quotes, dashes, a capital, a full stop."""
    text = re.sub(r"\s+", " ", sentence).strip()
    text = text.replace("...", "…").replace(" -- ", " — ")
    text = re.sub(r"(^|[\s(\[])\"", r"\1“", text).replace('"', "”")
    text = re.sub(r"(?<=\w)'(?=\w)", "’", text)
    text = re.sub(rf"(?<=[{_CJK}])(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(?=[{_CJK}])", " ", text)
    text = re.sub(r"\s+([,.;:!?])(?=\s|$)", r"\1", text)
    text = text[:1].upper() + text[1:]
    if re.search(r"[\w)\]]$", text):
        text += "。" if is_chinese(text) else "."
    return text


def breaths(sentence: str, longest: int = 76) -> list[str]:
    """`sentence` in lines that a narrator speaks in one breath; broken only after a clause, and only where long."""
    lines: list[str] = []
    for clause in re.findall(r".+?(?:[,;:] |[，；：]|$)", sentence):
        if lines and (_width(lines[-1]) + _width(clause) <= longest or _width(clause) < longest / 4):
            lines[-1] += clause
        else:
            lines.append(clause)
    return [line.strip() for line in lines]


def _width(text: str) -> int:
    return sum(2 if re.match(f"[{_CJK}]", character) else 1 for character in text)
