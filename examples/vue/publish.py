"""Publishes a text, token by token, where the page looks for it."""

import time

from stagecast import RedisStreamPublisher

TEXT = "这是一段流式生成的文本 🚀, token by token."

with RedisStreamPublisher("123", "rewrite") as publisher:
    publisher.publish_stage_update(status="processing", progress=0)
    for number, token in enumerate(TEXT, start=1):
        publisher.publish_token(token)
        publisher.publish_stage_update(status="processing", progress=100 * number // len(TEXT))
        time.sleep(0.1)
    publisher.publish_done(full_text=TEXT)
