"""A stand-in for the seed's module `core.redis`: its names, positions and messages, by plain Pub/Sub alone."""

import json
import os
import time
from collections.abc import Iterator
from typing import Any, cast

import redis

URL = os.environ.get("REDIS_URL") or os.environ.get("CELERY_BROKER_URL", "")
Message = dict[str, Any]
ENDS_STAGE = {"done", "error"}
ENDS_PROJECT = {"pipeline_done", "pipeline_error"}


def channel_of(project_id: str, stage_name: str) -> str:
    return f"ai_story:project:{project_id}:stage:{stage_name}"


class _Closing:
    def __init__(self, channel: str) -> None:
        self._channel = channel
        # The name lets a test see in CLIENT LIST whose subscription stands.
        self._redis = redis.Redis.from_url(URL, decode_responses=True, client_name=channel)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._redis.close()


class RedisStreamPublisher(_Closing):
    def __init__(self, project_id: str, stage_name: str) -> None:
        super().__init__(channel_of(project_id, stage_name))
        self.project_id, self.stage_name = project_id, stage_name

    def publish(self, message: Message) -> bool:
        whole = json.dumps({**message, "timestamp": time.time()})
        try:
            self._redis.publish(self._channel, whole)
        except redis.RedisError:
            return False
        return True

    def _publish(self, kind: str, required: Message, **optional: Any) -> bool:
        given = {name: value for name, value in optional.items() if value is not None}
        return self.publish(
            {"type": kind, "stage": self.stage_name, "project_id": self.project_id, **required, **given}
        )

    def publish_token(self, content: str, full_text: str | None = None) -> bool:
        return self._publish("token", {"content": content}, full_text=full_text)

    def publish_stage_update(self, status: str, progress: int | None = None, message: str | None = None) -> bool:
        return self._publish("stage_update", {"status": status}, progress=progress, message=message)

    def publish_progress(self, current: int, total: int, item_name: str | None = None) -> bool:
        percent = int(current / total * 100) if total else 0
        return self._publish("progress", {"current": current, "total": total, "progress": percent}, item_name=item_name)

    def publish_item_completed(self, item_type: str, sequence_number: int, metadata: Message | None = None) -> bool:
        required = {"item_type": item_type, "sequence_number": sequence_number}
        return self._publish("item_completed", required, metadata=metadata)

    def publish_done(self, full_text: str = "", metadata: Message | None = None) -> bool:
        return self._publish("done", {"full_text": full_text}, metadata=metadata)

    def publish_stage_completed(self, metadata: Message | None = None) -> bool:
        return self._publish("stage_completed", {}, metadata=metadata)

    def publish_error(self, error: str, retry_count: int = 0) -> bool:
        return self._publish("error", {"error": error, "retry_count": retry_count})

    def publish_pipeline_done(self, metadata: Message | None = None) -> bool:
        return self._publish("pipeline_done", {}, metadata=metadata)

    def publish_pipeline_error(self, error: str, metadata: Message | None = None) -> bool:
        return self._publish("pipeline_error", {"error": error}, metadata=metadata)


class RedisStreamSubscriber(_Closing):
    def __init__(self, project_id: str, stage_name: str | None = None) -> None:
        super().__init__(channel_of(project_id, stage_name or "*"))
        self._ends = ENDS_PROJECT if stage_name is None else ENDS_STAGE
        self._pubsub: Any = cast(Any, self._redis).pubsub()

    def subscribe(self) -> None:
        self._pubsub.psubscribe(self._channel)

    def unsubscribe(self) -> None:
        self._pubsub.punsubscribe()

    def get_message(self, timeout: float = 1.0) -> Message | None:
        if not self._pubsub.subscribed:
            self.subscribe()
        found = self._pubsub.get_message(timeout=timeout)
        if found is None or found["type"] != "pmessage":
            return None
        message: Message = {**json.loads(found["data"]), "channel": found["channel"]}
        return message

    def listen(self, timeout: float | None = None) -> Iterator[Message]:
        last = time.monotonic()
        while timeout is None or time.monotonic() - last < timeout:
            if (message := self.get_message()) is not None:
                last = time.monotonic()
                yield message
                if message["type"] in self._ends:
                    return
