"""The seed's other Python examples, each in a function, word for word but for the import line."""

# mypy: ignore-errors
# pyright: reportOptionalSubscript=false, reportIndexIssue=false, reportArgumentType=false

import logging

import redis

from stagecast import RedisStreamPublisher, RedisStreamSubscriber

# fmt: off


def publisher_as_context_manager(project_id, stage_name):
    with RedisStreamPublisher(project_id, stage_name) as publisher:
        publisher.publish_token(content="Hello")
        publisher.publish_done(full_text="Hello World")


def subscriber_of_one_stage():
    # 订阅单个阶段
    subscriber = RedisStreamSubscriber(project_id='123', stage_name='rewrite')

    try:
        for message in subscriber.listen(timeout=300):
            print(f"收到消息: {message['type']}")

            if message['type'] == 'token':
                print(f"Token: {message['content']}")
            elif message['type'] == 'done':
                print(f"完成: {message['full_text']}")
                break
            elif message['type'] == 'error':
                print(f"错误: {message['error']}")
                break
    finally:
        subscriber.close()


def subscriber_of_all_stages():
    # stage_name=None 表示订阅项目所有阶段
    subscriber = RedisStreamSubscriber(project_id='123', stage_name=None)

    for message in subscriber.listen():
        print(f"阶段: {message['stage']}, 类型: {message['type']}")


def subscriber_as_context_manager(project_id, stage_name, process_message):
    with RedisStreamSubscriber(project_id, stage_name) as subscriber:
        for message in subscriber.listen():
            process_message(message)


def batches(tokens, publisher):
    # 避免频繁发送小消息
    buffer = []
    for token in tokens:
        buffer.append(token)
        if len(buffer) >= 10:  # 每10个token发送一次
            publisher.publish_token(content=''.join(buffer))
            buffer = []


def timeout(subscriber):
    # 设置合理的超时时间
    return subscriber.listen(timeout=300)  # 5分钟超时


def nothing_published(project_id, stage_name):
    # 使用上下文管理器自动清理
    with RedisStreamPublisher(project_id, stage_name) as publisher:  # noqa: F841
        # 自动调用close()
        pass


def own_client(redis_url):
    return redis.from_url(
        redis_url,
        decode_responses=True,      # 自动解码为字符串
        socket_connect_timeout=5,   # 连接超时
        socket_timeout=5,           # 操作超时
        retry_on_timeout=True,      # 超时重试
        health_check_interval=30    # 健康检查间隔
    )


def own_pool(redis_url):
    # 使用连接池避免频繁创建连接
    redis_pool = redis.ConnectionPool.from_url(
        redis_url,
        max_connections=50,
        decode_responses=True
    )

    redis_client = redis.Redis(connection_pool=redis_pool)
    return redis_client


def debug_logging():
    logging.basicConfig(level=logging.DEBUG)
    logger = logging.getLogger('stagecast')
    return logger
# fmt: on
