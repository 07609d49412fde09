"""`stagecast tail`: follows a stage or a project in the terminal, or writes its messages for log collection."""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from attrs import Factory, define

from stagecast.domain.errors import BusUnavailable, InvalidTopic, NotConfigured
from stagecast.domain.events import JSON
from stagecast.entrypoints import configuration, wiring
from stagecast.entrypoints.subscribers import RedisStreamSubscriber

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

SUCCEEDED, FAILED, TIMED_OUT, PIPE_CLOSED = 0, 1, 3, 141
_PIPELINE_ENDS = {"pipeline_done": SUCCEEDED, "pipeline_error": FAILED}
_STAGE_ENDS = {"done": SUCCEEDED, "error": FAILED, **_PIPELINE_ENDS}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What published text must not do to a terminal."""
_SHOWN_LINES = 12

Message = dict[str, JSON]


class View(Protocol):
    """Where messages are shown."""

    def show(self, message: Message) -> None: ...

    def end(self) -> None:
        """Show what is still held back."""
        ...


def main(options: argparse.Namespace) -> int:
    """Follow until the end; the exit code. `options`: project, stage, bus, json, timeout."""
    url = options.bus or configuration.bus_url()
    if not wiring.shared_bus(url).capabilities.processes:
        raise NotConfigured(f"{url} reaches this process only: there is nothing to follow from here")
    try:
        with _view(as_json=options.json) as view:
            return _follow(options, url, view)
    except (BusUnavailable, InvalidTopic) as error:
        raise NotConfigured(str(error)) from error
    except BrokenPipeError:  # who read the output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED


def _follow(options: argparse.Namespace, url: str, view: View) -> int:
    ends = _PIPELINE_ENDS if options.stage is None else _STAGE_ENDS
    code: int | None = None
    with RedisStreamSubscriber(options.project, options.stage, bus=url) as subscriber:
        for message in subscriber.listen(options.timeout):
            view.show(message)
            code = ends.get(str(message["type"]))
    view.end()
    if code is None:
        print(f"stagecast: no message for {options.timeout:g} s", file=sys.stderr)
        return TIMED_OUT
    return code


@contextmanager
def _view(*, as_json: bool) -> Iterator[View]:
    if as_json:
        yield JsonLines()
    elif not sys.stdout.isatty():
        yield PlainLines()
    else:
        try:
            from rich.live import Live
        except ModuleNotFoundError as error:
            raise NotConfigured(
                f"following in a terminal needs the package {error.name}: pip install 'stagecast[cli]', or add --json"
            ) from error
        with Live(auto_refresh=False, vertical_overflow="crop") as live:
            yield LiveView(live)


class JsonLines:
    """One message a line."""

    def show(self, message: Message) -> None:
        line = json.dumps(message, ensure_ascii=False)
        print(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", line), flush=True)  # JSON itself escapes some only

    def end(self) -> None:
        pass


class PlainLines:
    """One line a message, and the text line by line, as far as its lines are complete."""

    def __init__(self) -> None:
        self._stages = Stages()
        self._pending: dict[str, str] = {}

    def show(self, message: Message) -> None:
        name = _line(str(message.get("stage") or "*"))
        before = self._stages.of(name).text
        stage = self._stages.take(message)
        if message["type"] == "token":
            if not before or not stage.text.startswith(before):
                self._flush(name)
                before = ""
            *complete, rest = (self._pending.get(name, "") + stage.text[len(before) :]).split("\n")
            self._pending[name] = rest
            for line in complete:
                print(f"{name}: {line}", flush=True)
        else:
            self._flush(name)
            print(f"{name}: {' '.join([_line(str(message['type'])), *_details(message)])}", flush=True)

    def end(self) -> None:
        for name in list(self._pending):
            self._flush(name)

    def _flush(self, name: str) -> None:
        if rest := self._pending.pop(name, ""):
            print(f"{name}: {rest}", flush=True)


class LiveView:
    """A bar a stage and the end of the text that is being written, redrawn with every message."""

    def __init__(self, live: "Live") -> None:
        self._live = live
        self._stages = Stages()
        self._writing: Stage | None = None

    def show(self, message: Message) -> None:
        stage = self._stages.take(message)
        if message["type"] == "token":
            self._writing = stage
        self._live.update(self._drawn(), refresh=True)

    def end(self) -> None:
        self._live.update(self._drawn(), refresh=True)

    def _drawn(self) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        bars = Table.grid(padding=(0, 2))
        for name, stage in self._stages.known.items():
            percent = "" if stage.progress is None else f"{stage.progress:.0f} %"
            bar = ProgressBar(total=100, completed=stage.progress or 0, width=30)
            bars.add_row(Text(name, style="bold"), bar, Text(percent), Text(stage.says))
        lines = self._writing.text.splitlines()[-_SHOWN_LINES:] if self._writing else []
        return Group(bars, Text("\n".join(lines)))


@define
class Stage:
    """What is shown of one stage."""

    text: str = ""
    progress: float | None = None
    says: str = ""


@define
class Stages:
    """What messages have told of each stage."""

    known: dict[str, Stage] = Factory(dict)

    def of(self, name: str) -> Stage:
        return self.known.setdefault(_line(name), Stage())

    def take(self, message: Message) -> Stage:
        """The stage as it is after the message."""
        stage = self.of(str(message.get("stage") or "*"))
        kind = message["type"]
        if kind == "token":
            content, full_text = str(message.get("content", "")), message.get("full_text")
            stage.text = _clean(full_text if isinstance(full_text, str) else stage.text + content)
            return stage
        if kind == "reset":
            stage.text, stage.progress = "", None
        progress = message.get("progress")
        if isinstance(progress, int | float):
            stage.progress = float(progress)
        if kind == "done":
            stage.progress = 100.0
            stage.text = _clean(str(message.get("full_text") or stage.text))
        shown = {name: value for name, value in message.items() if name not in {"status", "progress"}}
        stage.says = _line(" ".join([str(message.get("status") or kind), *_details(shown)]))
        return stage


def _details(message: Message) -> list[str]:
    """The fields that say something to a person, but for the text."""
    details = []
    for name in ("status", "progress", "message", "item_name", "item_type", "sequence_number", "error", "reason"):
        value = message.get(name)
        if value is not None and value != "":
            details.append(f"{value:g}%" if name == "progress" and isinstance(value, int | float) else str(value))
    return [_line(detail) for detail in details]


def _line(text: str) -> str:
    return " ".join(_clean(text).split())


def _clean(text: str) -> str:
    return _CONTROL.sub("\ufffd", text)
