"""What a reader of one stage may be told, message by message, for the tests of interleavings."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import Factory, define

from stagecast.domain.positions import Position


def pieces(run: str) -> list[str]:
    """The tokens of the run that is called `run`; no two tokens are the same, of whatever runs."""
    return [f"{run}{number};" for number in range(3)]


def whole(run: str) -> str:
    return "".join(pieces(run))


@define(eq=False)
class Watch:
    """One reader's messages, each judged at once. `runs` are the runs, or attempts, that there may be, in their order.

    Each run's tokens and statuses name it.
    """

    runs: Sequence[str]
    newest: int = 0
    """The newest run that the reader has seen, or that had begun when it came: it must be shown none before."""
    text: str = ""
    position: Position | None = None
    count: int = 0
    done: bool = False
    lost: bool = False
    told: list[str] = Factory(list)
    _was_reset: bool = False

    def take(self, message: Mapping[str, Any]) -> None:
        """Judge one more message."""
        self.told.append(_short(message))
        try:
            self._take(message)
        except AssertionError as error:
            error.add_note(f"the reader was told {self.told}")
            raise

    def has_ended(self) -> bool:
        """Whether the reader was told the end."""
        return self.done

    def end(self, *, may_be_lost: bool) -> None:
        """The reader's stream has ended."""
        assert self.done or (self.lost and may_be_lost), f"the stream ended after {self.told}"

    def _take(self, message: Mapping[str, Any]) -> None:
        assert not self.done, "nothing comes after the end"
        self.count += 1
        if "id" in message:
            position = Position.parse(message["id"])
            rises = self.position is None or position > self.position
            assert rises or (self._was_reset and position == self.position), "positions rise"
            self.position = position
        match message["type"]:
            case "reset":
                self.text, self._was_reset = "", True
                self.lost = message["reason"] == "lost"
                if message["reason"] == "epoch":
                    self.newest = 0  # an older run may be back before the newer is
                if message.get("run") in list(self.runs):
                    self._see(message["run"])
                return
            case "token":
                self._take_token(message)
            case "stage_update":
                self._see(message["message"])
            case "done":
                self.done = True
                assert self.text == message["full_text"] == whole(self.runs[self.newest]), "the end has all tokens"
            case other:
                raise AssertionError(f"nobody has published {other}")
        self.lost = False

    def _take_token(self, message: Mapping[str, Any]) -> None:
        before, content = self.text, message["content"]
        if "offset" in message:
            assert message["offset"] in {0, len(before)}, "a gap in the text"
            self.text = before[: message["offset"]] + content
        else:
            begins_anew = message["full_text"] == content
            self.text = content if begins_anew else before + content
            assert message["full_text"] == self.text, "the tokens make the text"
        begun = [run for run in self.runs if content and whole(run).startswith(self.text)]
        assert begun, f"no run has the text {self.text!r}"
        self._see(begun[0])
        is_same = not self._was_reset and whole(begun[0]).startswith(before)
        assert not is_same or len(self.text) > len(before), "a token comes twice"
        self._was_reset = False

    def _see(self, run: str) -> None:
        index = self.runs.index(run)
        assert index >= self.newest, f"run {run} is over: {self.runs[self.newest]} has begun"
        self.newest = index


def _short(message: Mapping[str, Any]) -> str:
    words = (message.get(name) for name in ("type", "content", "reason", "run", "message", "id"))
    return " ".join(str(word) for word in words if word is not None)
