"""The demo's writers: the one that is no model, and the one that has one."""

from collections.abc import Iterator

from stagecast.entrypoints.demo import prose
from stagecast.entrypoints.demo.writer import LocalWriter, ModelWriter, narration
from tests.demo import TEXT


class Recorder:
    """A model in the place of a server: answers what it was told to, and keeps the prompts."""

    name = "recorder"

    def __init__(self, answer: str) -> None:
        self.prompts: list[str] = []
        self._answer = answer

    def stream(self, prompt: str, *, max_tokens: int) -> Iterator[str]:
        self.prompts.append(prompt)
        yield from prose.tokens(self._answer)


def test_the_local_writer_keeps_every_word_of_the_user() -> None:
    """The narration is the user's own text: nothing is invented, nothing is lost."""
    letters = [character for character in TEXT if character.isalnum()]
    told = "".join(LocalWriter(0).rewrite(TEXT))
    assert sorted(told.casefold()) != sorted(TEXT.casefold())  # it is rearranged, though
    assert [character for character in told if character.isalnum()] == letters


def test_the_local_writer_says_that_it_is_no_model() -> None:
    """The page shows the description."""
    writer = LocalWriter(0)
    assert writer.model is None
    assert "No language model" in writer.description


def test_the_local_storyboard_has_a_shot_for_each_sentence() -> None:
    """Shots are numbered, described, and carry the sentence, broken lines joined again."""
    told = narration("By midnight the harbour was full of small lights, and nobody in the village knew why. 海又空了。")
    assert len(told.splitlines()) == 3
    board = "".join(LocalWriter(0).storyboard(told))
    assert [shot.caption for shot in prose.shots(board)] == [
        "By midnight the harbour was full of small lights, and nobody in the village knew why.",
        "海又空了。",
    ]
    assert board.startswith("Shot 1 [wide shot, ")
    assert "\n镜头 2 [全景, " in board


def test_a_long_text_becomes_eight_shots() -> None:
    """Many sentences are grouped, none is dropped."""
    told = narration(" ".join(f"Boat number {n} came." for n in range(20)))
    board = "".join(LocalWriter(0).storyboard(told))
    assert len(prose.shots(board)) == prose.SHOTS
    assert all(f"Boat number {n} came." in board for n in range(20))


def test_a_model_is_given_a_long_text_in_pieces() -> None:
    """Each sentence is in exactly one prompt, and the answers follow each other."""
    model = Recorder("An answer.")
    sentences = [f"Sentence number {n} is about a boat on the wide and quiet sea." for n in range(40)]
    told = "".join(ModelWriter(model).rewrite(" ".join(sentences)))
    assert len(model.prompts) > 1
    assert all(sum(one in prompt for prompt in model.prompts) == 1 for one in sentences)
    assert told == "\n\n".join(["An answer."] * len(model.prompts))


def test_a_model_writes_one_line_a_shot() -> None:
    """What a model says beyond its first line is dropped, so that shots stay apart."""
    board = "".join(ModelWriter(Recorder("\nA lamp is lit.\nAnd more talk.")).storyboard("One. Two."))
    assert board == "Shot 1: A lamp is lit.\nShot 2: A lamp is lit."
    assert ModelWriter(Recorder("")).description == "Written by the language model recorder."
