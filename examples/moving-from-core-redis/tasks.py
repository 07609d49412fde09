"""A pipeline of stages on the queue `llm`, written for core.redis. Only its import line has changed."""

import os

from celery import Celery, chain
from models import PICTURES, ImageModel, LanguageModel

from stagecast import RedisStreamPublisher

celery_app = Celery("tasks", broker=os.environ["CELERY_BROKER_URL"])
celery_app.conf.update(task_default_queue="llm", broker_connection_retry_on_startup=True)
llm_client = LanguageModel()
image_client = ImageModel()


@celery_app.task(bind=True, max_retries=1)
def execute_llm_stage(self, project_id, stage_name, prompt):
    publisher = RedisStreamPublisher(project_id, stage_name)
    try:
        publisher.publish_stage_update(status="processing", progress=0, message="正在生成文案...")

        full_text = ""
        for token in llm_client.generate_stream(prompt, attempt=self.request.retries):
            full_text += token
            publisher.publish_token(content=token, full_text=full_text)

        metadata = {"tokens_used": len(full_text), "latency_ms": 2500}
        publisher.publish_stage_update(status="processing", progress=100)
        publisher.publish_done(full_text=full_text, metadata=metadata)
        publisher.publish_stage_completed(metadata=metadata)
        return full_text
    except ConnectionError as e:
        publisher.publish_error(error=str(e), retry_count=self.request.retries)
        raise self.retry(exc=e, countdown=0) from e
    finally:
        publisher.close()


@celery_app.task
def execute_storyboard_stage(text, project_id):
    """The text is short: nothing to do here."""
    with RedisStreamPublisher(project_id, "storyboard") as publisher:
        publisher.publish_stage_update(status="skipped", progress=100, message="无需分镜")
    return text


@celery_app.task
def execute_image_stage(text, project_id):
    publisher = RedisStreamPublisher(project_id, "image_generation")
    try:
        publisher.publish_stage_update(status="processing", progress=0)
        for number, picture in enumerate(image_client.draw(text), start=1):
            publisher.publish_item_completed("image", number, metadata=picture)
            publisher.publish_progress(number, PICTURES, item_name=f"分镜{number}")

        metadata = {"images": PICTURES}
        publisher.publish_done(metadata=metadata)
        publisher.publish_stage_completed(metadata=metadata)
    finally:
        publisher.close()


@celery_app.task
def run_pipeline(project_id, prompt):
    with RedisStreamPublisher(project_id, "pipeline") as publisher:
        publisher.publish_stage_update(status="processing", progress=0)
        publisher.publish({"type": "canvas_opened", "canvas": {"prompt": prompt}})
    stages = chain(
        execute_llm_stage.s(project_id, "rewrite", prompt),
        execute_storyboard_stage.s(project_id),
        execute_image_stage.s(project_id),
        finish_pipeline.si(project_id),
    )
    stages.apply_async(link_error=fail_pipeline.s(project_id))


@celery_app.task
def finish_pipeline(project_id):
    with RedisStreamPublisher(project_id, "pipeline") as publisher:
        publisher.publish_done(metadata={"stages": 3})
        publisher.publish_pipeline_done(metadata={"stages": 3})


@celery_app.task
def fail_pipeline(request, error, traceback, project_id):
    with RedisStreamPublisher(project_id, "pipeline") as publisher:
        publisher.publish_pipeline_error(error=str(error), metadata={"task": request.task})
