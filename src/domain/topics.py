"""Topics and the syntax of ids. Knows nothing of any key, channel or URL built from them."""

import re
from typing import Self, TypeAlias
from uuid import UUID

from attrs import frozen

from .errors import InvalidTopic

Id: TypeAlias = str | int | UUID

# Separators and globs of Redis keys, hash tags, patterns and URL paths; white space and control
# characters, those of the direction of writing too; what no encoding can carry (lone surrogates), and what servers
# put in the place of what they cannot decode (U+FFFD: %ff and %fe would be one id). `\s` is Unicode's white space.
_FORBIDDEN = re.compile(
    r"[:/*?\[\]{}\\\s\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufffd\ud800-\udfff]"
)
_MAX_CHARACTERS = 128


def identifier(value: Id, what: str = "id") -> str:
    """`value` as a valid id: 1 to 128 characters, none of `: / * ? [ ] { } \\`, white space, control or U+FFFD.

    `.` and `..` are refused too: an HTTP client resolves them inside a path. int and UUID become text.
    Raises InvalidTopic, whose message names `what`.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | UUID):
        raise InvalidTopic(f"{what} must be text, an int or a UUID, not {type(value).__name__}")
    text = str(value)
    if not 1 <= len(text) <= _MAX_CHARACTERS:
        raise InvalidTopic(f"{what} must have 1 to {_MAX_CHARACTERS} characters, not {len(text)}")
    if found := _FORBIDDEN.search(text):
        raise InvalidTopic(f"{what} must not contain {found.group()!r}")
    if text in {".", ".."}:
        raise InvalidTopic(f"{what} must not be {text!r}")
    return text


@frozen
class Topic:
    """One stage of a project, or, with `stage` None, all stages of a project."""

    project: str
    stage: str | None = None

    @classmethod
    def of(cls, project: Id, stage: Id | None = None) -> Self:
        """A validated topic. Raises InvalidTopic."""
        return cls(identifier(project, "project id"), None if stage is None else identifier(stage, "stage name"))

    @property
    def one_stage(self) -> str:
        """The stage. Raises InvalidTopic where the topic is all of them."""
        if self.stage is None:
            raise InvalidTopic(f"all stages of project {self.project} are meant where one is needed")
        return self.stage

    def __str__(self) -> str:
        return self.project if self.stage is None else f"{self.project}/{self.stage}"

    def covers(self, stage: str) -> bool:
        """Whether an event of `stage` (of this project) belongs to the topic."""
        return self.stage is None or self.stage == stage
