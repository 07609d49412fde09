"""What is taken away of each promise to browsers, and to those who run the servers."""

from .mutant import Mutant

_PUBLISHING = "src/domain/publishing.py"
_PRODUCING = "src/domain/producing.py"
_EVENTS = "src/domain/events.py"
_LINK = "src/adapters/redis/link.py"
_APP = "src/entrypoints/sse/asgi.py"
_CHANNEL = "src/entrypoints/sse/channel.py"
_CORS = "src/entrypoints/sse/cors.py"
_FOLD = "src/entrypoints/sse/fold.py"
_RESPONSE = "src/entrypoints/sse/response.py"
_SENDER = "src/entrypoints/sse/sender.py"
_COMPONENT = "examples/vue/src/App.vue"
_NGINX = "deploy/nginx.conf"

OF_SERVING = [
    # SSE views
    Mutant("`/projects/{project_id}/stages/{stage_name}/`", _APP, "            Route(STAGE, plain),\n", ""),
    Mutant("`/projects/{project_id}/` without", _APP, "            Route(PROJECT, plain),\n", ""),
    Mutant("the same under `stream/`", _APP, "gate(guarded=True, tickets=", "gate(guarded=False, tickets="),
    Mutant(
        "the same under `stream/`",
        _APP,
        "gate(guarded=True, tickets=",
        "gate(guarded=False, tickets=",
        "test_without_a_policy_the_authorised_routes_answer_401",
    ),
    Mutant("a heartbeat comment", _CHANNEL, "return framing.HEARTBEAT + self.place", "return self.place"),
    Mutant("idle streams end", _CHANNEL, "elif self._is_idle(viewer, now):", "elif False:"),
    Mutant(
        "idle streams end",
        _CHANNEL,
        "limit = self.settings.project_idle if stage is None else self.settings.stage_idle",
        "limit = self.settings.stage_idle",
    ),
    Mutant(
        "idle streams end",
        _CHANNEL,
        " and not self.fold.view.is_waiting(viewer.topic)",
        "",
        "test_what_waits_or_is_leased_is_never_idle",
    ),
    Mutant(
        "a heartbeat comment",
        "src/entrypoints/sse/settings.py",
        "default=15.0",
        "default=25.0",
        "test_the_streams_keep_the_seeds_times",
    ),
    Mutant(
        "idle streams end",
        "src/entrypoints/sse/settings.py",
        "default=600.0",
        "default=60.0",
        "test_the_streams_keep_the_seeds_times",
    ),
    Mutant(
        "idle streams end",
        "src/entrypoints/sse/settings.py",
        "default=1800.0",
        "default=600.0",
        "test_the_streams_keep_the_seeds_times",
    ),
    # Front end
    Mutant(
        "messages are unnamed",
        "src/entrypoints/sse/framing.py",
        r'b"id: %b\ndata: %b\n\n"',
        r'b"id: %b\nevent: stage\ndata: %b\n\n"',
    ),
    Mutant(
        "`data.full_text` with each",
        "src/entrypoints/messages.py",
        '        head["full_text"] = text\n',
        "        pass\n",
    ),
    Mutant("the JavaScript example", _CORS, '[(b"access-control-allow-origin", origin.encode("latin-1"))]', "[]"),
    Mutant(
        "the JavaScript example",
        _CHANNEL,
        "viewer.finish(self.fold.stream_end())",
        "viewer.finish()",
        "test_the_seeds_client_is_told_of_the_streams_end",
    ),
    Mutant(
        "the JavaScript example",
        "src/domain/ledger.py",
        "                    stage.ender = batch.producer\n            self._append(",
        "                    stage.ender = batch.producer\n                    continue\n            self._append(",
        "test_the_seeds_client_is_told_of_an_error",
    ),
    Mutant(
        "the JavaScript example",
        _CORS,
        "if origin is None or not cors.allows(origin):",
        "if origin is None:",
        "test_a_page_of_another_origin_gets_nothing",
    ),
    Mutant(
        "later users' client",
        _FOLD,
        "over := one.ends_project if topic.stage is None else one.ends_stage",
        "over := one.ends_stage",
    ),
    Mutant(
        "later users' client",
        _CORS,
        '[(b"access-control-allow-origin", origin.encode("latin-1"))]',
        "[]",
        "test_the_later_client_on_a_stage",
    ),
    Mutant("the Vue 3 component", _COMPONENT, "        progress.value = data.progress;\n", ""),
    Mutant(
        "the Vue 3 component",
        _COMPONENT,
        "        fullText.value = data.full_text;\n",
        "",
        "test_the_component_follows_a_stage",
    ),
    Mutant(
        "the Vue 3 component",
        _COMPONENT,
        "        console.error(data.error);\n",
        "",
        "test_the_component_is_told_of_an_error",
    ),
    # Deployment
    Mutant(
        "an ASGI server: uvicorn",
        "src/entrypoints/sse/hub.py",
        "                self._send_away(viewer)\n",
        "                pass\n",
    ),
    Mutant(
        "an ASGI server: uvicorn",
        _SENDER,
        "                    self._connection.write(data)\n",
        "                    pass\n",
        "test_each_token_arrives_before_the_next_is_published",
    ),
    Mutant(
        "an ASGI server: Daphne",
        _SENDER,
        "if data or (data := viewer.take()):",
        "if viewer.over and (data or (data := viewer.take())):",
    ),
    Mutant(
        "an ASGI server: Daphne",
        "src/entrypoints/sse/endpoint.py",
        "hub = self._edge.hub()",
        "hub = next(iter(self._edge._hubs.values()))",
        "test_without_a_lifespan_the_first_request_opens",
    ),
    Mutant(
        "beside a Django project",
        "examples/django/config/asgi.py",
        'routes=[Mount("/", app=django_application)]',
        "",
    ),
    Mutant(
        "beside a Django project",
        "src/entrypoints/sse/hub.py",
        "                self._send_away(viewer)\n",
        "                pass\n",
        "test_a_stream_ends_with_the_server",
    ),
    Mutant("`./run_asgi.sh`", "run_asgi.sh", 'exec "$@"', '"$@"'),
    Mutant(
        "nginx without buffering",
        _NGINX,
        "proxy_buffering off;",
        "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;",
    ),
    Mutant(
        "nginx without buffering",
        _CHANNEL,
        "return framing.HEARTBEAT + self.place",
        "return self.place",
        "test_a_quiet_stream_lives",
    ),
    Mutant(
        "nginx without buffering",
        _RESPONSE,
        '    (b"x-accel-buffering", b"no"),\n',
        "",
        "test_an_nginx_that_buffers_is_told_not_to",
    ),
    Mutant(
        "nginx without buffering",
        _NGINX,
        "proxy_intercept_errors on;",
        "",
        "test_an_event_source_is_asked_to_come_back",
    ),
    Mutant(
        "Redis without persistence",
        _PRODUCING,
        "batch[receipt.applied :], receipt.need,",
        "batch[receipt.applied :], None,",
        "test_a_restart_without_persistence_loses_nothing_a_living_publisher_holds",
    ),
    Mutant(
        "Redis without persistence",
        _PRODUCING,
        "batch[receipt.applied :], receipt.need,",
        "batch[receipt.applied :], None,",
        "test_redis_may_lose_everything_in_mid_stream",
    ),
    Mutant(
        "a connection pool",
        _LINK,
        '"max_connections": max_connections',
        '"max_connections": 50 * max_connections',
    ),
    Mutant(
        "a connection pool",
        _LINK,
        "return Keys(project, self._database).feed",
        'return f"ai_story:{{{project}}}"',
        "test_channels_and_numsub_count_foreign_readers_only",
    ),
    Mutant(
        "Redis without persistence",
        "deploy/redis.conf",
        "\nappendonly no",
        "\nappendonly yes",
        "test_the_shipped_redis_writes_nothing_to_disk",
    ),
    # Troubleshooting
    Mutant(
        '`psubscribe "ai_story:*"`',
        "src/adapters/redis/settings.py",
        '"ai_story:project:{project_id}:stage:',
        '"ai_story:{project_id}:',
    ),
    Mutant("`pubsub channels`", _LINK, "return Keys(project, self._database).feed", 'return f"ai_story:{{{project}}}"'),
    Mutant(
        "a logger for debugging",
        _PUBLISHING,
        '        logger.log(level, "%s/%s: refused: %s", self.topic.project, self.stage, error)\n',
        "",
    ),
    Mutant(
        "an SSE connection that ends",
        "src/entrypoints/sse/refusals.py",
        'if "text/event-stream" in request.headers.get("accept", "").lower():',
        "if False:",
    ),
    Mutant(
        "an SSE connection that ends",
        "src/entrypoints/sse/refusals.py",
        'if "text/event-stream" in request.headers.get("accept", "").lower():',
        "if False:",
        "test_too_many_connections",
    ),
    Mutant(
        "no messages arrive",
        _PRODUCING,
        "                await asyncio.sleep(backoff.pause(failures, longest))\n",
        "                raise\n",
    ),
    # Moving
    Mutant(
        "a team moves by",
        "examples/moving-from-core-redis/monitor.py",
        "from stagecast import",
        "from stagecast.entrypoints.subscribers import",
    ),
    Mutant(
        "a team moves by",
        "src/domain/values.py",
        "return int(min(max",
        "return round(min(max",
        "test_the_project_runs_as_on_core_redis",
    ),
    Mutant(
        "a team moves by",
        _EVENTS,
        '"completed", "failed", "skipped"',
        '"completed", "failed"',
        "test_its_viewers_see_everything",
    ),
]
