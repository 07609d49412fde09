"""What compose.yaml starts, started without Docker: Redis, the worker, the server, nginx, and a task that streams."""

import asyncio
import re
import shlex
import signal
import time
from pathlib import Path

import httpx
import jwt
import yaml

from tests.deploy.nginx import running_nginx
from tests.deploy.reading import reading
from tests.deploy.shipped import DEPLOY
from tests.deploy.test_redis_conf import shipped_redis
from tests.reading import rebuilt, told
from tests.servers import available_redis_kinds
from tests.sse.browser import stage_path
from tests.sse.programs import BIN, SERVE, running
from tests.waiting import wait_until

SECRET = "a-secret-of-32-bytes-or-some-more"


def installed(command: list[str]) -> list[str]:
    return [str(BIN / command[0]), *command[1:]]


async def test_a_task_streams_through_all_pieces(tmp_path: Path) -> None:
    """With a token, from the worker's own commands in the file to the browser's last message."""
    text = (DEPLOY / "compose.yaml").read_text()
    worker_command = yaml.safe_load(text)["services"]["worker"]["command"]
    call = re.search(r"exec worker (celery .*)", text)
    assert call is not None
    token = jwt.encode({"sub": "viewer", "projects": ["123"], "exp": time.time() + 600}, SECRET, algorithm="HS256")
    with shipped_redis(available_redis_kinds()[0]) as redis:
        environment = {"STAGECAST_BUS": redis.url, "STAGECAST_JWT_SECRET": SECRET, "PYTHONPATH": str(DEPLOY)}
        with (
            running(installed(worker_command), {**environment, "STAGECAST_JWT_SECRET": ""}) as worker,
            running(SERVE, environment) as server,
            running_nginx(tmp_path / "nginx", [server.port]) as nginx,
        ):
            try:
                async with httpx.AsyncClient(http2=True, verify=nginx.trusting(), base_url=nginx.url) as client:
                    path = stage_path("123") + "stream/"
                    assert (await client.get(path)).status_code == 401
                    credentials = {"Authorization": f"Bearer {token}"}
                    async with reading(client, path, credentials) as stream:
                        assert (await stream.next())["type"] == "connected"
                        await asyncio.to_thread(wait_until, lambda: " ready." in worker.output, 30)
                        with running(installed(shlex.split(call[1])), environment) as caller:
                            assert await asyncio.to_thread(caller.exit_code, 20) == 0, caller.output
                        messages = await stream.rest()
            finally:
                worker.process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(worker.exit_code, 20)
    assert rebuilt(messages) == "Nothing is lost. "
    assert told(messages) == ["processing", "token", "done", "stream_end"]
