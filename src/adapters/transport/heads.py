"""A ledger without its log and its texts, as bytes and back. Knows no engine."""

import json
from collections import deque
from typing import Any

from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from stagecast.domain.ledger import ProjectLedger
from stagecast.domain.positions import Position
from stagecast.domain.records import PAST_RUNS, Lease, ProducerRecord, StageRecord, TaskRecord

_FIELDS = ("end", "touched", "_epoch", "stages", "_producers")
"""Of a ledger: what a head has. The limits and the encoder are the bus's, the log and the texts are kept apart."""


def dumped(ledger: ProjectLedger) -> bytes:
    """The head of `ledger`."""
    return json.dumps(
        {name: _CONVERTER.unstructure(getattr(ledger, name)) for name in _FIELDS}, separators=(",", ":")
    ).encode()


def load_into(ledger: ProjectLedger, head: bytes) -> None:
    """Let `ledger`, which is new, stand where the one stood that `head` was made of; its log and texts are empty."""
    found = json.loads(head)
    for name, kind in zip(_FIELDS, _KINDS, strict=True):
        setattr(ledger, name, _CONVERTER.structure(found[name], kind))


_KINDS: tuple[Any, ...] = (Position | None, int, int, dict[str, StageRecord], dict[str, ProducerRecord])


def _converter() -> Converter:
    converter = Converter()
    converter.register_unstructure_hook(Position, list)
    converter.register_structure_hook(Position, lambda value, _: Position(*value))
    converter.register_structure_hook(Position | None, lambda value, _: None if value is None else Position(*value))
    converter.register_unstructure_hook(bytes, bytes.decode)  # encoded events are UTF-8
    converter.register_structure_hook(bytes, lambda value, _: value.encode())
    for kind in (TaskRecord, ProducerRecord, Lease):
        converter.register_unstructure_hook(kind, make_dict_unstructure_fn(kind, converter))
    past = override(unstruct_hook=list, struct_hook=_past)
    unstructure = make_dict_unstructure_fn(
        StageRecord, converter, _cattrs_omit_if_default=True, text=override(omit=True), past=past
    )
    structure = make_dict_structure_fn(StageRecord, converter, text=override(omit=True), past=past)
    converter.register_unstructure_hook(StageRecord, unstructure)
    converter.register_structure_hook(StageRecord, structure)
    return converter


def _past(value: Any, _: object) -> deque[str]:
    return deque(value, maxlen=PAST_RUNS)


_CONVERTER = _converter()
