"""Another process of the contract suite: `python -m stagecast.entrypoints.testing.worker COMMAND URL ARGUMENTS`.

Prints lines of JSON. Commands: `publish URL PROJECT STAGE COUNT`, `read URL PROJECT STAGE SECONDS`,
`die URL PROJECT STAGE` (publishes, then waits to be killed), `fork URL PROJECT`.
"""

import asyncio
import json
import os
import sys
from contextlib import suppress

from stagecast.adapters.codec import JsonCodec
from stagecast.domain.bus import MessageBus
from stagecast.domain.errors import StagecastError
from stagecast.domain.topics import Topic
from stagecast.entrypoints.wiring import open_bus

from .actors import Producer, publishing, reading

CODEC = JsonCodec()


async def publish(bus: MessageBus, topic: Topic, count: int) -> object:
    """Publish `count` tokens and the end."""
    async with publishing(bus, topic) as publisher:
        for number in range(count):
            publisher.publish_token(f"{number} ")
        publisher.publish_done()
        return {"delivered": await publisher.flush(60)}


async def read(bus: MessageBus, topic: Topic, seconds: int) -> object:
    """Read until the stage ends, for so many seconds at the most."""
    async with reading(bus, topic) as reader:
        say({"ready": True})
        with suppress(AssertionError):
            await reader.until(lambda: reader.state(topic).ended, seconds)
        return {"text": reader.text}


async def die(bus: MessageBus, topic: Topic) -> object:
    """Publish and stay, without an end and with a renewed lease, until killed."""
    async with publishing(bus, topic) as publisher:
        publisher.publish_token("last words")
        await publisher.flush(60)
        say({"ready": True, "run": publisher.run_id})
        await asyncio.Event().wait()
    return {}


def fork(bus: MessageBus, project: str) -> object:
    """Publish, fork, and publish with the same bus object in both processes."""
    loop = asyncio.new_event_loop()
    parent, child = Producer(Topic(project, "parent")), Producer(Topic(project, "child"))
    loop.run_until_complete(parent.write(bus, "before "))
    reading_end, writing_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer = "wrong"
        try:
            asyncio.run(child.write(bus, "child"))
            answer = "published"
        except StagecastError as error:
            answer = type(error).__name__
        finally:
            os.write(writing_end, answer.encode())
            os._exit(0)
    os.close(writing_end)
    for number in range(50):
        loop.run_until_complete(parent.write(bus, f"{number} "))
    answer = ""
    while chunk := os.read(reading_end, 1000):
        answer += chunk.decode()
    os.waitpid(pid, 0)
    loop.run_until_complete(parent.send(bus, parent.done()))
    state = loop.run_until_complete(_states(bus, project))
    loop.run_until_complete(bus.aclose())
    loop.close()
    return {"child": answer, "texts": state}


async def _states(bus: MessageBus, project: str) -> dict[str, str]:
    async with reading(bus, Topic(project)) as reader:
        await reader.until_count(1)
        return {name: state.text for name, state in reader.stages.items()}


def say(answer: object) -> None:
    """Write one line of JSON."""
    print(json.dumps(answer), flush=True)


def main(command: str, url: str, *arguments: str) -> None:
    """Run one command."""
    bus = open_bus(url)
    if command == "fork":
        say(fork(bus, *arguments))
        return
    project, stage, *rest = arguments
    topic = Topic(project, stage)
    work = {"publish": publish, "read": read, "die": die}[command]
    say(asyncio.run(work(bus, topic, *map(int, rest))))  # type: ignore[operator]


if __name__ == "__main__":
    main(*sys.argv[1:])
