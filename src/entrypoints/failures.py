"""What viewers are told of an exception that nobody has put into words for them. Knows no task and no bus.

An exception's own text is written for who runs the server: it may name hosts, paths, and what was in a URL. So viewers
get a sentence and an id, and the log has the exception under the same id, unless `celery.error_text` says otherwise.
"""

import logging
from uuid import uuid4

from stagecast.domain.errors import NotConfigured

from . import configuration

logger = logging.getLogger("stagecast.celery")


def told(what: str, error: BaseException, where: object, *, final: bool = True) -> str:
    """The text for viewers: `what` (a clause, without a full stop), and of `error` as much as is configured.

    What it leaves out is logged, with the id that it tells. Never raises: a failure is published whatever its faults.
    """
    kind = type(error).__name__
    match _detail():
        case "full":
            return _text(error) or kind
        case "type":
            shown = f"{what}: {kind}"
        case _:
            shown = what
    identity = uuid4().hex[:8]
    if final:
        logger.error("%s: %s (error %s): %r", where, what, identity, _Shown(error), exc_info=error)
    else:
        logger.warning("%s: %s (error %s): %r", where, what, identity, _Shown(error), exc_info=error)
    return f"{shown} (error {identity})."


class _Shown:
    """An exception for the log, also one whose own code fails."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __repr__(self) -> str:
        try:
            return repr(self._error)
        except Exception:
            return type(self._error).__name__


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def _detail() -> str:
    try:
        return configuration.current().celery.error_text
    except NotConfigured:  # whatever is wrong elsewhere: the safe side
        return "safe"
