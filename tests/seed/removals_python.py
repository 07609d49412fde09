"""What is taken away of each promise to those who publish and follow in Python."""

from .mutant import Mutant

_PUBLISHERS = "src/entrypoints/publishers.py"
_SUBSCRIBERS = "src/entrypoints/subscribers.py"
_PUBLISHING = "src/domain/publishing.py"
_PRODUCING = "src/domain/producing.py"
_EVENTS = "src/domain/events.py"
_FOLLOWING = "src/domain/following.py"
_CODEC = "src/adapters/codec.py"
_LINK = "src/adapters/redis/link.py"
_LEDGER = "src/adapters/redis/ledger.lua"
_CONFIGURATION = "src/entrypoints/configuration.py"
_FOLD = "src/entrypoints/sse/fold.py"

OF_PYTHON = [
    # Architecture
    Mutant("task → publisher", _FOLD, "        self.recent.append(recent)\n", ""),
    Mutant("Redis carries", _LEDGER, "if seed ~= '' and not is_ours then", "if seed ~= '' then"),
    # RedisStreamPublisher
    Mutant(
        "in a task with try",
        _PUBLISHERS,
        "self._stage.publish_stage_update(status, progress, message, retry_count=retry_count)",
        "True",
    ),
    Mutant(
        "in a task with try",
        _PUBLISHERS,
        "self._stage.publish_error(error, retry_count, reason=reason)",
        "True",
        "test_the_task_that_fails_publishes_its_error",
    ),
    Mutant(
        "as a context manager, which closes",
        _PUBLISHERS,
        "self._stage.publish_done(full_text, metadata)",
        "self._stage.publish_done(self.text, metadata)",
    ),
    Mutant(
        "as a context manager, which closes",
        _PRODUCING,
        "while self.run_id is not None and not self.superseded:",
        "while not self.superseded:",
        "test_a_publisher_that_says_nothing_leaves_nothing",
    ),
    Mutant(
        "each call sends its message",
        _CODEC,
        'StageUpdated: ("progress", "message", "retry_count"),',
        'StageUpdated: ("progress", "retry_count"),',
    ),
    Mutant(
        "each call sends its message",
        _CODEC,
        '    StageFailed: ("reason",),\n',
        "",
        "test_errors_send_the_message_of_the_seed",
    ),
    Mutant("a batch's percentage", "src/domain/values.py", "return int(min(max", "return round(min(max"),
    Mutant("a batch's percentage", "src/domain/values.py", "if of else 0.0", "if of else 100.0"),
    Mutant(
        "calls answer with a bool",
        _PUBLISHING,
        "        if self.strict:\n            raise error",
        "        raise error",
    ),
    Mutant(
        "calls answer with a bool",
        _PUBLISHERS,
        "delivered = self.flush(self._timeout)",
        "delivered = True",
        "test_unreachable_bus_delays_nothing_and_loses_nothing",
    ),
    Mutant(
        "`publish_error`, then a retry",
        "src/entrypoints/executions.py",
        "if execution.is_retried or publisher.has_ended:",
        "if execution.is_retried:",
    ),
    Mutant(
        "`publish_done`, then",
        _PUBLISHERS,
        "return self._stage.publish_stage_completed(metadata)",
        "return not self._has_ended and self._stage.publish_stage_completed(metadata)",
    ),
    Mutant(
        "`publish_done`, then",
        _PUBLISHERS,
        "return self._stage.publish_stage_completed(metadata)",
        "return not self._has_ended and self._stage.publish_stage_completed(metadata)",
        "test_task_that_publishes_its_end_itself",
    ),
    Mutant(
        "`status='skipped'`",
        _EVENTS,
        '"completed", "failed", "skipped"',
        '"completed", "failed"',
        "test_a_skipped_stage_ends_its_stream",
    ),
    Mutant(
        "`status='skipped'`",
        _EVENTS,
        '"completed", "failed", "skipped"',
        '"completed", "failed"',
        "test_a_skipped_stage_ends_a_listener_that_would_wait_for_ever",
    ),
    Mutant(
        "as a context manager, which closes",
        _PUBLISHERS,
        "        self.close()\n",
        "        pass\n",
        "test_the_end_of_the_block_closes_the_publisher",
    ),
    # RedisStreamSubscriber
    Mutant("one stage, until", _FOLLOWING, "if shown is None:", 'if shown is None or shown.type == "done":'),
    Mutant(
        "one stage, until",
        _FOLLOWING,
        "if shown is None:",
        'if shown is None or shown.type == "error":',
        "test_the_subscriber_of_one_stage_ends_with_an_error",
    ),
    Mutant(
        "all stages (`stage_name=None`)",
        "src/domain/topics.py",
        "return self.stage is None or self.stage == stage",
        "return self.stage == stage",
    ),
    Mutant(
        "all stages (`stage_name=None`)",
        _FOLLOWING,
        "if topic.stage is not None:",
        "if topic.stage is not None or self.stages:",
    ),
    Mutant(
        "all stages (`stage_name=None`)",
        "src/domain/topics.py",
        "return self.stage is None or self.stage == stage",
        "return self.stage == stage",
        "test_listen_ends_with_its_topic",
    ),
    Mutant(
        "as a context manager",
        "src/entrypoints/read_ahead.py",
        "self._put(found, ends=ends)",
        "self._put(found, ends=False)",
    ),
    Mutant(
        "its messages carry",
        _SUBSCRIBERS,
        'return {**content, "channel": CHANNEL.format(self._topic.project, "*" if stage is None else stage)}',
        "return content",
    ),
    Mutant(
        "`get_message(timeout)`",
        _SUBSCRIBERS,
        "return self._message(taken.shown) if taken else None",
        "return self._message(taken.shown)",
    ),
    Mutant("`unsubscribe()`", _SUBSCRIBERS, "        self._after = ahead.position\n", ""),
    Mutant(
        "`unsubscribe()`",
        _SUBSCRIBERS,
        "        self._is_closed = True\n        self.unsubscribe()",
        "        self._is_closed = True",
        "test_close_ends_a_waiting_reader",
    ),
    Mutant(
        "one stage, until",
        _SUBSCRIBERS,
        "        self.subscribe()\n",
        "        pass\n",
        "test_the_subscription_stands_when_the_constructor_returns",
    ),
    Mutant(
        "as a context manager",
        _SUBSCRIBERS,
        "        self.close()\n",
        "        pass\n",
        "test_the_end_of_the_block_closes_the_subscriber",
    ),
    # Message formats
    Mutant(
        "token, stage_update,",
        _CODEC,
        '("stage", "project_id", "timestamp")}\n',
        '("stage", "project_id", "timestamp")}\n    del common["project_id"]\n',
    ),
    Mutant(
        "token, stage_update,", _CODEC, '    ItemCompleted: ("metadata",),\n', "", "test_what_was_not_given_is_left_out"
    ),
    Mutant("connected, stream_end", _FOLD, ', "message": "SSE连接已建立"', ""),
    Mutant("connected, stream_end", _FOLD, ', "message": "SSE流已关闭"', ""),
    Mutant("later users' stage_completed", _PUBLISHERS, "self._stage.publish_pipeline_done(metadata)", "True"),
    Mutant(
        "any other message passes",
        _CODEC,
        '{**message, "timestamp": message.get("timestamp", timestamp)}',
        '{"type": tag, "timestamp": timestamp}',
    ),
    # Channel names
    Mutant(
        "`ai_story:project:",
        "src/adapters/redis/settings.py",
        '"ai_story:project:{project_id}:stage:',
        '"ai_story:{project_id}:',
    ),
    Mutant(
        "`ai_story:project:",
        "src/adapters/redis/bus.py",
        "            int(seed.full_text),\n",
        "            1,\n",
        "test_an_own_client_listens_beside_stagecast",
    ),
    Mutant("an id is a part", "src/domain/topics.py", r"[:/*?\[", r"[/*?\["),
    # Configuration
    Mutant(
        "`REDIS_URL`, else",
        _CONFIGURATION,
        '("REDIS_URL", "REDIS_PUBSUB_URL", "CELERY_BROKER_URL")',
        '("REDIS_PUBSUB_URL", "REDIS_URL", "CELERY_BROKER_URL")',
    ),
    Mutant(
        "`REDIS_URL`, else",
        _CONFIGURATION,
        'url.startswith(("redis", "sentinel"))',
        "False",
        "test_a_redis_broker_counts",
    ),
    Mutant(
        "both as names",
        _CONFIGURATION,
        "str(in_django(name) or _in_environment(name) or",
        "str(_in_environment(name) or",
    ),
    Mutant(
        "connect and command timeouts",
        _LINK,
        "except (RedisError, OSError, TimeoutError) as error:",
        "except (OSError, TimeoutError) as error:",
    ),
    Mutant(
        "connect and command timeouts",
        _LINK,
        "disable_decoding=True, timeout=math.inf,",
        "disable_decoding=True,",
        "test_a_short_socket_timeout_does_not_end_a_quiet_subscription",
    ),
    Mutant(
        "connect and command timeouts",
        "src/adapters/redis/settings.py",
        "connect_timeout: float = field(default=5.0",
        "connect_timeout: float = field(default=50.0",
        "test_redis_is_given_the_seeds_times",
    ),
    # Performance
    Mutant(
        "ten tokens in one",
        _PUBLISHING,
        "            self._outbox.add_token(content, full_text)\n",
        "            for one in content:\n                self._outbox.add_token(one, None)\n",
    ),
    Mutant(
        "ten tokens in one",
        "src/domain/outbox.py",
        "batch_events: int = 512",
        "batch_events: int = 1",
        "test_a_burst_goes_in_batches",
    ),
    Mutant("`listen(timeout=300)`", _FOLLOWING, "if shown is None:", 'if shown is None or shown.type == "done":'),
    Mutant(
        "`listen(timeout=300)`",
        _SUBSCRIBERS,
        "            if taken.ends:\n                return\n",
        "            if taken.ends:\n                return\n        self.close()\n",
        "test_listen_after_a_lapse_receives_what_comes_later",
    ),
    Mutant(
        "`with` cleans up",
        _PRODUCING,
        "while self.run_id is not None and not self.superseded:",
        "while not self.superseded:",
    ),
    Mutant(
        "`with` cleans up",
        _PRODUCING,
        "                await self._release()\n",
        "                pass\n",
        "test_closing_gives_the_lease_back",
    ),
    Mutant(
        "`with` cleans up",
        _PUBLISHERS,
        "        self.close()\n",
        "        pass\n",
        "test_the_end_of_the_block_closes_the_publisher",
    ),
    # Tests
    Mutant("its unit test passes", _SUBSCRIBERS, "self._take(ahead, timeout, None)", "self._take(ahead, 0, None)"),
    Mutant(
        "its integration run",
        _PUBLISHERS,
        "self._stage.publish_done(full_text, metadata)",
        "self._stage.publish_done(full_text)",
    ),
]
