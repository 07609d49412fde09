"""The seed's messages beside the events that they stand for, for the tests of the codec."""

import json
from typing import Any

from stagecast.adapters.codec import JsonCodec
from stagecast.domain.events import (
    Event,
    ItemCompleted,
    PipelineCompleted,
    PipelineFailed,
    ProgressReported,
    StageCompleted,
    StageFailed,
    StageRefreshed,
    StageUpdated,
    TokenEmitted,
)
from stagecast.domain.topics import Topic

CODEC = JsonCodec()
TOPIC = Topic("123", "rewrite")
TIME = 1234567890.123
METADATA = {"tokens_used": 1000, "latency_ms": 2500}


def make(kind: type[Event], **fields: object) -> Event:
    return kind(project="123", stage=fields.pop("stage", "rewrite"), timestamp=TIME, **fields)  # type: ignore[arg-type]


# The user's specification, message formats 1 to 5, and the four types that its users added later.
SEED: dict[str, tuple[Event, dict[str, Any]]] = {
    "token": (
        make(TokenEmitted, content="这是", offset=10),
        {"type": "token", "content": "这是", "stage": "rewrite", "project_id": "123", "timestamp": TIME},
    ),
    "stage_update": (
        make(StageUpdated, status="processing", progress=50, message="正在生成文案..."),
        {
            "type": "stage_update",
            "stage": "rewrite",
            "status": "processing",
            "progress": 50,
            "message": "正在生成文案...",
            "project_id": "123",
            "timestamp": TIME,
        },
    ),
    "progress": (
        make(ProgressReported, stage="image_generation", current=3, total=10, progress=30, item_name="分镜3"),
        {
            "type": "progress",
            "stage": "image_generation",
            "current": 3,
            "total": 10,
            "progress": 30,
            "item_name": "分镜3",
            "project_id": "123",
            "timestamp": TIME,
        },
    ),
    "done": (
        make(StageCompleted, full_text="完整的生成结果...", metadata=METADATA),
        {
            "type": "done",
            "stage": "rewrite",
            "project_id": "123",
            "full_text": "完整的生成结果...",
            "metadata": METADATA,
            "timestamp": TIME,
        },
    ),
    "error": (
        make(StageFailed, error="API调用失败: 超时", retry_count=1),
        {
            "type": "error",
            "stage": "rewrite",
            "project_id": "123",
            "error": "API调用失败: 超时",
            "retry_count": 1,
            "timestamp": TIME,
        },
    ),
    "stage_completed": (
        make(StageRefreshed, metadata=METADATA),
        {
            "type": "stage_completed",
            "metadata": METADATA,
            "stage": "rewrite",
            "project_id": "123",
            "timestamp": TIME,
        },
    ),
    "item_completed": (
        make(ItemCompleted, item_type="camera", sequence_number=2, metadata={"url": "/2.png"}),
        {
            "type": "item_completed",
            "item_type": "camera",
            "sequence_number": 2,
            "metadata": {"url": "/2.png"},
            "stage": "rewrite",
            "project_id": "123",
            "timestamp": TIME,
        },
    ),
    "pipeline_done": (
        make(PipelineCompleted, stage="pipeline", metadata=METADATA),
        {
            "type": "pipeline_done",
            "metadata": METADATA,
            "stage": "pipeline",
            "project_id": "123",
            "timestamp": TIME,
        },
    ),
    "pipeline_error": (
        make(PipelineFailed, stage="pipeline", error="boom", metadata=METADATA),
        {
            "type": "pipeline_error",
            "error": "boom",
            "metadata": METADATA,
            "stage": "pipeline",
            "project_id": "123",
            "timestamp": TIME,
        },
    ),
}
LEFT_OUT: dict[str, tuple[Event, set[str]]] = {
    "stage_update": (make(StageUpdated, status="x"), {"progress", "message", "retry_count"}),
    "progress": (make(ProgressReported, current=1, total=2, progress=50), {"item_name"}),
    "item_completed": (make(ItemCompleted, item_type="image", sequence_number=1), {"metadata"}),
    "done": (make(StageCompleted, full_text=""), {"metadata"}),
    "error": (make(StageFailed, error="x"), {"reason"}),
    "stage_completed": (make(StageRefreshed), {"metadata"}),
    "pipeline_done": (make(PipelineCompleted), {"metadata"}),
    "pipeline_error": (make(PipelineFailed, error="x"), {"metadata"}),
}


def line(header: object, message: object) -> bytes:
    return json.dumps(header).encode() + b"\t" + json.dumps(message).encode()
