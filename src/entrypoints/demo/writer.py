"""Who writes the texts of the demo's stages: the user's own text, rearranged, or a language model. Knows no stage.

`TextModel` is the port of a language model. Without one the demo uses `LocalWriter`, which is none and says so.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Protocol

from . import prose
from .scene import Scene, read_scenes

CHUNK_CHARACTERS = 600
"""How much of a long text a model is given at a time: a small one forgets the rest."""

_BREATH = "\n  "
"""Between two lines of one sentence."""
_FRAMES = ("wide shot", "medium shot", "close-up", "low angle", "over the shoulder", "bird’s eye")
_MOVES = ("slow push in", "static", "pan left", "pan right", "gentle tilt up", "tracking")
_FRAMES_ZH = ("全景", "中景", "特写", "仰拍", "过肩", "俯拍")
_MOVES_ZH = ("缓慢推近", "固定", "左摇", "右摇", "缓缓上摇", "跟拍")
_HOURS_ZH = {"dawn": "清晨", "day": "白天", "dusk": "黄昏", "night": "夜"}


class TextModel(Protocol):
    """A language model."""

    @property
    def name(self) -> str: ...

    def stream(self, prompt: str, *, max_tokens: int) -> Iterator[str]:
        """The answer to `prompt`, piece by piece as it is made. Raises a StagecastError where the model fails."""
        ...


class Writer(Protocol):
    """What the text stages need."""

    @property
    def description(self) -> str:
        """Who writes, in a sentence for the page."""
        ...

    @property
    def model(self) -> str | None:
        """The model's name; None where no model is at work."""
        ...

    def rewrite(self, text: str) -> Iterator[str]:
        """The user's text as a narration, piece by piece."""
        ...

    def storyboard(self, narration: str) -> Iterator[str]:
        """The shots for a narration, one numbered line each (`prose.shots` reads them), piece by piece."""
        ...


class LocalWriter:
    """No model: tidies the user's own text into narration lines and makes shots of its sentences.

    `pace` is in tokens a second, so that the streaming can be seen; 0 is as fast as possible.
    """

    model = None
    description = "No language model: your own text, tidied, split into lines and shots, and streamed word by word."

    def __init__(self, pace: float = 40.0) -> None:
        self._pause = 1.0 / pace if pace > 0 else 0.0

    def rewrite(self, text: str) -> Iterator[str]:
        return self._paced(narration(text))

    def storyboard(self, narration: str) -> Iterator[str]:
        found = prose.groups(prose.sentences(narration.replace(_BREATH, " ")))
        lines = [
            _shot_line(number, len(found), sentence, scene)
            for number, (sentence, scene) in enumerate(zip(found, read_scenes(found), strict=True), start=1)
        ]
        return self._paced("\n".join(lines))

    def _paced(self, text: str) -> Iterator[str]:
        for token in prose.tokens(text):
            if self._pause:
                time.sleep(self._pause)
            yield token


class ModelWriter:
    """A language model at work. A long text is given to it piece by piece."""

    def __init__(self, model: TextModel) -> None:
        self._model = model
        self.model = model.name
        self.description = f"Written by the language model {model.name}."

    def rewrite(self, text: str) -> Iterator[str]:
        for number, chunk in enumerate(_chunks(prose.sentences(text))):
            if number:
                yield "\n\n"
            prompt = (
                "Rewrite this text as a short, vivid narration, in the same language and in full sentences. "
                f"Answer with the narration only.\n\n{chunk}"
            )
            yield from self._model.stream(prompt, max_tokens=240)

    def storyboard(self, narration: str) -> Iterator[str]:
        found = prose.groups(prose.sentences(narration), most=6)
        for number, passage in enumerate(found, start=1):
            yield f"Shot {number}: " if number == 1 else f"\nShot {number}: "
            prompt = (
                "Describe in one short sentence what a camera would see, in the same language. "
                f"Answer with the sentence only.\n\n{passage}"
            )
            yield from _one_line(self._model.stream(prompt, max_tokens=60))


def narration(text: str) -> str:
    """`text` as a narrator would like to have it: a sentence a line, a long one in breaths, paragraphs apart."""
    paragraphs = [[prose.tidy(one) for one in prose.sentences(part)] for part in text.split("\n\n")]
    return "\n\n".join(
        "\n".join(_BREATH.join(prose.breaths(sentence)) for sentence in paragraph)
        for paragraph in paragraphs
        if paragraph
    )


def _shot_line(number: int, total: int, sentence: str, scene: Scene) -> str:
    chinese = prose.is_chinese(sentence)
    frames, moves = (_FRAMES_ZH, _MOVES_ZH) if chinese else (_FRAMES, _MOVES)
    frame = frames[0] if number in {1, total} else frames[1 + scene.seed % (len(frames) - 1)]
    move = moves[(scene.seed >> 8) % len(moves)]
    seconds = max(2, round(len(prose.tokens(sentence)) / (4 if chinese else 2.5)))
    if chinese:
        return f"镜头 {number} [{frame}, {move}, {_HOURS_ZH[scene.hour]}, {seconds} 秒] {sentence}"
    return f"Shot {number} [{frame}, {move}, {scene.hour}, {seconds} s] {sentence}"


def _chunks(found: list[str]) -> Iterator[str]:
    chunk = ""
    for sentence in found:
        if chunk and len(chunk) + len(sentence) > CHUNK_CHARACTERS:
            yield chunk
            chunk = ""
        chunk = f"{chunk} {sentence}".strip()
    if chunk:
        yield chunk


def _one_line(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces up to the end of the first line that has text."""
    begun = False
    for piece in pieces:
        piece = piece if begun else piece.lstrip()
        begun = begun or bool(piece)
        line, end, _ = piece.partition("\n")
        if line:
            yield line
        if begun and end:
            return
