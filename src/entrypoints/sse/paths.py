"""The paths of the HTTP side, as patterns of Starlette's, and back from a topic to a path."""

from urllib.parse import quote

from stagecast.domain.topics import Topic

PROJECT = "/api/v1/sse/projects/{project_id}/"
STAGE = "/api/v1/sse/projects/{project_id}/stages/{stage_name}/"
GUARDED = "stream/"
"""What the routes end with that ask the policy."""
TICKETS = "/api/v1/sse/tickets"
CANCEL = "/api/v1/projects/{project_id}/stages/{stage_name}/cancel"


def stream_of(topic: Topic) -> str:
    """Where a topic is followed, by who may."""
    names = {"project_id": quote(topic.project, safe=""), "stage_name": quote(topic.stage or "", safe="")}
    return (PROJECT if topic.stage is None else STAGE).format(**names) + GUARDED
