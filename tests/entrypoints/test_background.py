"""The background thread: made lazily, one a process, gone with it; under fork, exit, threads and green threads.

What must happen to whole processes is tried on whole processes: each script below is one.
"""

import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from stagecast import RedisStreamSubscriber
from stagecast.domain.errors import NotConfigured
from stagecast.entrypoints.background import background
from tests.reading import rebuilt, told
from tests.servers import RedisServer, free_port


def run_script(code: str, url: str, project: str = "", *, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run `code` in an interpreter of its own; it finds the bus's URL and the project in `url` and `project`."""
    head = f"url, project = {url!r}, {project!r}\nfrom stagecast import RedisStreamPublisher, RedisStreamSubscriber\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", head + code], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def by_name(server: RedisServer) -> str:
    """The server's URL with a host name, whose look-up needs an executor."""
    return server.url.replace("127.0.0.1", "localhost")


def items(messages: list[dict[str, Any]]) -> set[Any]:
    """What the item messages name."""
    return {message["item_type"] for message in messages if message["type"] == "item_completed"}


def read(url: str, project: str, count: int) -> list[dict[str, Any]]:
    """The `count` messages of the project, published or yet to be."""
    with RedisStreamSubscriber(project, bus=url) as subscriber:
        found = [subscriber.get_message(10) for _ in range(count)]
    return [message for message in found if message is not None]


def test_importing_creates_nothing() -> None:
    """Importing the package starts no thread and loads no transport, framework or task queue."""
    run_script(
        "import sys, threading\n"
        "assert threading.active_count() == 1\n"
        "loaded = {'redis', 'celery', 'starlette', 'uvicorn', 'nats'} & set(sys.modules)\n"
        "assert not loaded, loaded\n",
        "memory://",
    )


def test_missing_extra_is_named() -> None:
    """Without Celery the entry point for tasks says what to install; nothing else needs it."""
    run_script(
        "import sys\n"
        "sys.modules['celery'] = None\n"
        "from stagecast.domain.errors import NotConfigured\n"
        "try: import stagecast.entrypoints.celery\n"
        "except NotConfigured as error: assert 'stagecast[celery]' in str(error)\n"
        "else: raise AssertionError\n",
        "memory://",
    )


def test_one_thread_a_process() -> None:
    """All threads that ask at once get one and the same background thread."""
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(background())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_unknown_name_of_the_package() -> None:
    """The lazy names of the package are few; any other is an AttributeError, as usual."""
    import stagecast

    with pytest.raises(AttributeError, match="nothing"):
        stagecast.nothing  # noqa: B018


def test_publisher_and_subscriber_from_before_a_fork(any_redis: RedisServer, project: str) -> None:
    """A child that uses its parent's publisher and subscriber gets a thread and connections of its own."""
    run_script(
        """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: a process with threads forks
publisher = RedisStreamPublisher(project, "rewrite", bus=url)
subscriber = RedisStreamSubscriber(project, "other", bus=url)
publisher.publish_stage_update("processing", 0)
assert publisher.flush()
child = os.fork()
if child == 0:
    try:
        assert publisher.publish_item_completed("of the child", 1) and publisher.flush()
        with RedisStreamPublisher(project, "other", bus=url) as other:
            other.publish_token("to the child")
            message = subscriber.get_message(10)
            assert message["content"] == "to the child", message
        assert publisher.close()
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
assert publisher.publish_item_completed("of the parent", 1) and publisher.flush()
assert os.waitpid(child, 0)[1] == 0
assert publisher.publish_item_completed("of the parent again", 1)
assert subscriber.get_message(10)["content"] == "to the child"
subscriber.close()
assert publisher.close()
""",
        any_redis.url,
        project,
    )
    assert items(read(any_redis.url, project, 5)) == {"of the parent", "of the child", "of the parent again"}


def test_children_of_multiprocessing_deliver_before_they_end(any_redis: RedisServer, project: str) -> None:
    """Forked children that publish and return at once, without flush or close, lose nothing."""
    run_script(
        """
import multiprocessing, warnings
warnings.simplefilter("ignore", DeprecationWarning)
publisher = RedisStreamPublisher(project, "images", bus=url)
publisher.publish_stage_update("processing", 0)
assert publisher.flush()
def work(number):
    RedisStreamPublisher(project, "images", bus=url).publish_item_completed(f"child{number}", number)
context = multiprocessing.get_context("fork")
children = [context.Process(target=work, args=(number,)) for number in range(4)]
for child in children: child.start()
for child in children: child.join()
assert [child.exitcode for child in children] == [0] * 4
publisher.close()
""",
        any_redis.url,
        project,
    )
    assert items(read(any_redis.url, project, 5)) == {f"child{number}" for number in range(4)}


def test_memory_bus_in_a_forked_child_says_so(project: str) -> None:
    """R148: A child that publishes on a bus of one process only is told loudly what to set."""
    done = run_script(
        """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)
subscriber = RedisStreamSubscriber(project, "rewrite", bus=url)
child = os.fork()
if child == 0:
    RedisStreamPublisher(project, "rewrite", bus=url).publish_token("nobody sees this")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert subscriber.get_message(0.1) is None
""",
        "memory://",
        project,
    )
    assert "STAGECAST_BUS=redis://" in done.stderr


def test_process_that_ends_delivers_what_it_published(any_redis: RedisServer, project: str) -> None:
    """A script that ends right after publishing, without flush or close, has published: the exit waits, in silence."""
    done = run_script(
        "for word in 'abcdefghij': RedisStreamPublisher(project, f'stage-{word}', bus=url).publish_token(word)\n"
        "publisher = RedisStreamPublisher(project, 'rewrite', bus=url)\n"
        "for number in range(1000): publisher.publish_token(f'{number} ')\n",
        by_name(any_redis),
        project,
    )
    with RedisStreamSubscriber(project, "rewrite", bus=any_redis.url) as subscriber:
        messages = [subscriber.get_message(10)]
    assert rebuilt(message for message in messages if message) == "".join(f"{number} " for number in range(1000))
    assert {message["content"] for message in read(any_redis.url, project, 11)} >= set("abcdefghij")
    assert done.stderr == ""


def test_process_ends_though_the_bus_is_away() -> None:
    """A process with undelivered events ends within its bound, and says what is lost."""
    done = run_script(
        "RedisStreamPublisher('p', 'rewrite', bus=url).publish_token('never')\n"
        "kept = RedisStreamPublisher('p', 'other', bus=url)\n"
        "kept.publish_token('never')\n",
        f"redis://127.0.0.1:{free_port()}/0",
        timeout=30,
    )
    assert "2 publishers have events that nobody will deliver" in done.stderr
    assert "Traceback" not in done.stderr


GEVENT = """
import gevent, gevent.monkey, threading, time
from gevent.pool import Pool
from stagecast.entrypoints.background import background
ticks = 0
def tick():
    global ticks
    while True:
        gevent.sleep(0.005)
        ticks += 1
ticker = gevent.spawn(tick)
real_ident = gevent.monkey.get_original("_thread", "get_ident")
async def where(): return real_ident()
assert background().call(where(), 10) != real_ident(), "the loop must run in a real thread"
def stream(number):
    stage = f"stage{number}"
    subscriber = RedisStreamSubscriber(project, stage, bus=url)
    publisher = RedisStreamPublisher(project, stage, bus=url)
    for n in range(50):
        publisher.publish_token(f"{n} ")
        gevent.sleep(0)
    assert publisher.publish_done(publisher.text)
    assert publisher.close()
    messages = list(subscriber.listen(10))
    subscriber.close()
    return "".join(m["content"] for m in messages if m["type"] == "token") == publisher.text
assert Pool(20).map(stream, range(20)) == [True] * 20
quiet = RedisStreamSubscriber(project, "quiet", bus=url)
waiting = gevent.spawn(lambda: list(quiet.listen(30)))
before = ticks
assert quiet.get_message(0.2) is None
assert ticks > before, "waiting must let other greenlets run"
quiet.close()
assert waiting.get(timeout=10) == []
unclosed = RedisStreamSubscriber(project, "unclosed", bus=url)
unclosed.itself = unclosed
del unclosed
import gc; gc.collect()
"""


def test_gevent_gets_a_real_thread(any_redis: RedisServer, project: str) -> None:
    """R92, R93: Under gevent 20 greenlets stream at once, waiting blocks none, and closing ends a wait."""
    code = f"import gevent.monkey\ngevent.monkey.patch_all()\nproject = {project!r}\nurl = {any_redis.url!r}\n"
    head = "from stagecast import RedisStreamPublisher, RedisStreamSubscriber\n"
    done = subprocess.run(
        [sys.executable, "-c", code + head + GEVENT], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    with RedisStreamSubscriber(project, "stage7", bus=any_redis.url) as subscriber:
        assert told(subscriber.listen(5)) == ["token", "done"]


def test_eventlet_is_refused_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under eventlet's monkey-patching there is no real thread to be had, which is said in so many words."""
    from stagecast.entrypoints import background as module

    monkeypatch.setitem(sys.modules, "eventlet.patcher", SimpleNamespace(is_monkey_patched=lambda name: True))
    monkeypatch.setattr(module, "_current", None)
    with pytest.raises(NotConfigured, match="eventlet"):
        background()
