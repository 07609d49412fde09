"""The task of the original documentation. Only its import line has changed."""

from config import celery_app

from stagecast import RedisStreamPublisher
from stories.llm import llm_client


@celery_app.task
def execute_llm_stage(project_id, stage_name, input_data):
    publisher = RedisStreamPublisher(project_id, stage_name)

    try:
        publisher.publish_stage_update(status="processing", progress=0)

        full_text = ""
        for token in llm_client.generate_stream(input_data["prompt"]):
            full_text += token
            publisher.publish_token(content=token, full_text=full_text)

        publisher.publish_done(full_text=full_text, metadata={"tokens_used": 1000, "latency_ms": 2500})

    except Exception as e:
        publisher.publish_error(error=str(e))
    finally:
        publisher.close()
