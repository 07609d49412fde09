"""The unit test of the seed's specification, word for word but for its import line, on memory and on a real server."""

# mypy: ignore-errors
# pyright: reportOptionalSubscript=false

import pytest

from stagecast import RedisStreamPublisher, RedisStreamSubscriber


@pytest.fixture(autouse=True)
def _configured(bus_url, monkeypatch):
    monkeypatch.setenv("STAGECAST_BUS", bus_url)


# fmt: off
def test_publish_subscribe():
    project_id = 'test-123'
    stage_name = 'rewrite'

    # 创建订阅器
    subscriber = RedisStreamSubscriber(project_id, stage_name)

    # 创建发布器
    publisher = RedisStreamPublisher(project_id, stage_name)

    # 发布消息
    publisher.publish_token(content='Hello')

    # 接收消息
    message = subscriber.get_message(timeout=1.0)
    assert message['type'] == 'token'
    assert message['content'] == 'Hello'

    # 清理
    publisher.close()
    subscriber.close()
# fmt: on
