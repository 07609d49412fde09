"""What a reader is given: the seed's messages as dicts. Knows no HTTP, no thread and no transport."""

from stagecast.adapters.codec import message_of
from stagecast.domain.events import JSON, TokenEmitted
from stagecast.domain.following import Reset, Shown


def message(shown: Shown, *, full_text: bool = True) -> dict[str, JSON]:
    """The message that shows `shown`: the seed's fields in the seed's order, and `id` where the position is known.

    With `full_text` False (delta mode) a token carries `offset`, and `snapshot` where it is the whole text so far,
    instead of the stage's whole text; the fields of all other messages are the same in both modes.
    """
    content = shown.content
    if isinstance(content, Reset):
        fields = _reset(content)
    elif isinstance(content, TokenEmitted):
        fields = _token(content, shown.text if full_text else None, delta=not full_text)
    else:
        fields = message_of(content)
    if shown.position is not None:
        fields["id"] = str(shown.position)
    return fields


def _token(token: TokenEmitted, text: str | None, *, delta: bool) -> dict[str, JSON]:
    fields = message_of(token)
    head: dict[str, JSON] = {"type": fields.pop("type"), "content": fields.pop("content")}
    fields.pop("full_text", None)
    if text is not None:
        head["full_text"] = text
    if delta:
        head["offset"] = token.offset
        if token.snapshot:
            head["snapshot"] = True
    return {**head, **fields}


def _reset(reset: Reset) -> dict[str, JSON]:
    fields: dict[str, JSON] = {
        "type": "reset",
        "project_id": reset.project,
        "stage": reset.stage,
        "reason": reset.cause,
    }
    if reset.run is not None:
        fields["run"] = reset.run
    if reset.attempt:
        fields["attempt"] = reset.attempt
    return fields
