"""HTTP/2, as a proxy or a browser speaks it with the servers that know it."""

import asyncio

import httpx
import pytest

from stagecast import RedisStreamPublisher
from tests.asgi_servers.launching import server_of
from tests.reading import rebuilt
from tests.servers import RedisServer
from tests.sse.browser import stage_path
from tests.sse.eventstream import EventStreamParser, Message

CONNECTIONS_OWN = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
"""Hop-by-hop headers, which make a response of HTTP/2 malformed."""
STREAMS = 8
"""More than the six that a browser opens to one server by HTTP/1.1."""


class Reading:
    """One stream of a shared connection."""

    def __init__(self, response: httpx.Response) -> None:
        self.stream = EventStreamParser()
        self._chunks = response.aiter_raw()
        self._seen = 0

    async def next(self) -> Message:
        while len(self.stream.events) <= self._seen:
            self.stream.feed(await asyncio.wait_for(anext(self._chunks), 15))
        self._seen += 1
        return self.stream.events[self._seen - 1].message


@pytest.mark.parametrize("name", ["hypercorn", "granian"])
async def test_streams_share_a_connection(name: str, redis: RedisServer, project: str) -> None:
    """R128, R129: over HTTP/2 each token arrives before the next is published, on more streams than HTTP/1.1 allows."""
    pieces = ["one ", "two ", "three"]
    limits = httpx.Limits(max_connections=1)
    with server_of(name, redis.url) as server:
        async with httpx.AsyncClient(http1=False, http2=True, limits=limits, timeout=15) as client:
            url = f"http://127.0.0.1:{server.port}{stage_path(project)}"
            responses = [await client.send(client.build_request("GET", url), stream=True) for _ in range(STREAMS)]
            assert {(one.status_code, one.http_version) for one in responses} == {(200, "HTTP/2")}
            assert not {name.lower() for name in responses[0].headers} & CONNECTIONS_OWN
            readers = [Reading(one) for one in responses]
            for reader in readers:
                assert (await reader.next())["type"] == "connected"
            told: list[list[Message]] = [[] for _ in readers]
            with RedisStreamPublisher(project, "rewrite", bus=redis.url) as publisher:
                for piece in pieces:
                    publisher.publish_token(piece)
                    for reader, messages in zip(readers, told, strict=True):
                        messages.append(await reader.next())
            for response in responses:
                await response.aclose()
    assert {rebuilt(messages) for messages in told} == {"one two three"}
