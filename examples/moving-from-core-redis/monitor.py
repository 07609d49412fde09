"""Follows all stages of a project in the terminal, one JSON line a message. Only its import line has changed."""

import json
import sys

from stagecast import RedisStreamSubscriber

with RedisStreamSubscriber(project_id=sys.argv[1], stage_name=None) as subscriber:
    print("listening", flush=True)
    for message in subscriber.listen(timeout=300):
        print(json.dumps(message, ensure_ascii=False), flush=True)
