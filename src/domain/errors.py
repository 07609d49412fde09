"""The typed failures of stagecast. No exception of a third party crosses the port; these do."""


class StagecastError(Exception):
    """Everything that stagecast raises on purpose."""


class BusUnavailable(StagecastError):
    """The bus cannot be reached or does not answer now. Retrying later may succeed."""


class EventTooLarge(StagecastError, ValueError):
    """An event's encoded size exceeds the limit (1 MiB by default). Nothing was published."""


class InvalidEvent(StagecastError, ValueError):
    """A value of an event cannot be sent as JSON; the message names the field. Nothing was published."""


class InvalidTopic(StagecastError, ValueError):
    """A project, stage, run or task id breaks the id syntax (`stagecast.domain.topics`)."""


class InvalidPosition(StagecastError, ValueError):
    """A position is not one that a bus wrote: malformed text, not merely an old position."""


class RunSuperseded(StagecastError):
    """A newer run or a newer attempt has taken the stage over; this producer's events no longer count."""


class RunCancelled(StagecastError):
    """The run was cancelled by a viewer or an API call."""


class NotConfigured(StagecastError):
    """No bus was named, or it cannot be opened as configured; the message says what to set."""


class PublishFailed(StagecastError):
    """A `strict` publisher's event was refused or could not be delivered in time."""


class Unauthenticated(StagecastError):
    """Who asks cannot be told: credentials are missing, malformed, forged or expired (401)."""


class AccessDenied(StagecastError):
    """Who asks is known, and may not do that with the project (403)."""


class AccessUnavailable(StagecastError):
    """Whether access is granted cannot be told now: nothing is granted, and asking later may succeed (503)."""
