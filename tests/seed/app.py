"""The seed's Celery example, word for word but for the import line, and what it takes for granted."""

# mypy: ignore-errors
# ruff: noqa: E402, I001

import os

from celery import Celery


class ScriptedModel:
    """A language model that says what it is told to."""

    tokens = ("这是", "一段", "流式生成的", "文本🙂")
    failure = None

    def generate_stream(self, prompt):
        yield from self.tokens
        if self.failure is not None:
            raise self.failure


celery_app = Celery("tests.seed.app", broker=os.environ.get("TEST_BROKER", "memory://"), set_as_current=False)
celery_app.conf.update(broker_connection_retry_on_startup=True)
llm_client = ScriptedModel()
prompt = "改写"

# fmt: off
from stagecast import RedisStreamPublisher

# 在Celery任务中使用
@celery_app.task
def execute_llm_stage(project_id, stage_name, input_data):
    # 创建发布器
    publisher = RedisStreamPublisher(project_id, stage_name)

    try:
        # 发布阶段开始消息
        publisher.publish_stage_update(status='processing', progress=0)

        # 流式生成文本
        full_text = ""
        for token in llm_client.generate_stream(prompt):
            full_text += token
            # 发布Token消息
            publisher.publish_token(content=token, full_text=full_text)

        # 发布完成消息
        publisher.publish_done(full_text=full_text, metadata={
            'tokens_used': 1000,
            'latency_ms': 2500
        })

    except Exception as e:
        # 发布错误消息
        publisher.publish_error(error=str(e))
    finally:
        publisher.close()
# fmt: on
