"""What the files of deploy/ name: environment variables and commands, held against what stagecast has."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import attrs
from celery import Celery
from celery.bin.base import CLIContext
from celery.bin.celery import celery

from stagecast.entrypoints import cli, configuration

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
_APP = Celery("parsing", set_as_current=False)
FOREIGN_VARIABLES = {"FORWARDED_ALLOW_IPS", "CELERY_APP", "PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
"""Of uvicorn, of our own unit, and of the system."""


def known_variables(settings: type = configuration.Configuration, prefix: str = "") -> set[str]:
    """All names that the environment may have for stagecast."""
    known = {configuration.CONFIG_VARIABLE, *configuration.SEED_VARIABLES} if not prefix else set()
    for one in attrs.fields(attrs.resolve_types(settings)):
        if isinstance(one.type, type) and attrs.has(one.type):
            known |= known_variables(one.type, f"{prefix}{one.name}.")
        else:
            known.add(configuration.variable_of(f"{prefix}{one.name}"))
    return known


def assert_known(names: set[str]) -> None:
    unknown = names - known_variables() - FOREIGN_VARIABLES
    assert not unknown, f"nobody reads {sorted(unknown)}"


def named_variables(text: str) -> set[str]:
    """The variables of stagecast that a text speaks of."""
    return set(re.findall(r"\bSTAGECAST_[A-Z_]+[A-Z]\b", text))


def environment_file() -> dict[str, str]:
    """What stagecast.env sets."""
    lines = (DEPLOY / "stagecast.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def assert_parses(command: Sequence[str] | str) -> None:
    """The command is one of our own or Celery's, and its arguments are valid."""
    words = shlex.split(command) if isinstance(command, str) else list(command)
    program, *arguments = words
    match Path(program).name:
        case "stagecast":
            cli._parser().parse_args(arguments)
        case "celery":
            name = next(word for word in arguments if word in celery.commands)
            at = arguments.index(name)
            celery.commands[name].make_context(name, list(arguments[at + 1 :]), obj=CLIContext(_APP, True, None))
            assert arguments[:at][0] == "-A"
        case other:
            raise AssertionError(f"{other} is none of ours")
