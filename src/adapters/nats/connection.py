"""One connection to NATS, from its opening to its end: requests and their answers, and subscriptions.

nats-py reconnects by itself, and sends then what it could not send before. Here a connection that is lost is over: who
waits for an answer is told at once, and nothing that was meant for the server as it was reaches it as it is now.
"""

import asyncio
import itertools
import json
import logging
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import nats.errors
from attrs import Factory, define
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from stagecast.domain.errors import BusUnavailable

from .settings import NatsSettings

logger = logging.getLogger("stagecast.nats")

FAILURES = (nats.errors.Error, OSError, asyncio.TimeoutError, AssertionError, AttributeError)
"""What nats-py raises; the last two where a connection ends under it."""
CLOSING = 1.0
"""Seconds that a connection may take to say goodbye."""
NO_RESPONDERS = "503"


OLDEST = (2, 11)
"""The first server that reads several messages at once."""


class NobodyAnswers(Exception):
    """Nobody serves the subject: the stream is gone, or has no leader now."""


class _Client(Client):
    """Says no to a server without TLS where TLS is asked for: nats-py would send the credentials in plain text."""

    demands_tls = False

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if self.demands_tls and initial_connection and not info.get("tls_required"):
            raise nats.errors.SecureConnWantedError
        await super()._process_info(info, initial_connection)


@define
class _Answers:
    """What has come to one request. With `many`, an empty message with a status is the last one."""

    many: bool
    messages: list[Msg] = Factory(list)
    complete: asyncio.Future[None] = Factory(lambda: asyncio.get_running_loop().create_future())


class Connection:
    """Made by `connect`, for the event loop that it is made in."""

    def __init__(self, settings: NatsSettings) -> None:
        self._settings = settings
        self._client = _Client()
        self._client.demands_tls = settings.tls
        self._numbers = itertools.count()
        self._waiting: dict[str, _Answers] = {}
        self._inbox = ""
        self._last_error = ""
        self._has_ended = False

    @property
    def is_over(self) -> bool:
        """Whether the connection is lost or closed, for good."""
        return self._has_ended or not self._client.is_connected

    @property
    def max_payload(self) -> int:
        """Bytes of headers and data that the server takes in one message."""
        return self._client.max_payload

    async def open(self, server: str, patience: float) -> None:
        """Connect to `server` within `patience` seconds. Raises BusUnavailable."""
        settings = self._settings
        try:
            async with asyncio.timeout(patience):
                await self._client.connect(
                    f"nats://{server}",
                    name="stagecast",
                    user=settings.user,
                    password=settings.password,
                    token=settings.token,
                    tls=settings.tls_context(),
                    connect_timeout=math.ceil(patience),
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    ping_interval=math.ceil(settings.command_timeout),
                    error_cb=self._on_error,
                    closed_cb=self._on_closed,
                    pending_size=0,  # else it swallows cancellations while it waits for a server that does not read
                    flusher_queue_size=0,
                )
                self._inbox = self._client.new_inbox() + "."
                await self._client.subscribe(
                    self._inbox + "*", cb=self._on_answer, pending_msgs_limit=0, pending_bytes_limit=0
                )
        except FAILURES as error:
            reason = self._last_error or _named(error)
            await self.aclose()
            raise BusUnavailable(f"NATS at {server} cannot be reached: {reason}") from error
        except BaseException:
            await self.aclose()
            raise
        version = self._client.connected_server_version
        if (version.major, version.minor) < OLDEST:
            await self.aclose()
            raise BusUnavailable(f"NATS at {server} is too old: {version}; 2.11 is needed")

    async def ask(self, subject: str, data: bytes = b"", headers: Mapping[str, str] | None = None) -> Msg:
        """The answer to a request. Raises BusUnavailable, NobodyAnswers."""
        return (await self._ask(_Answers(many=False), subject, data, headers))[0]

    async def ask_json(self, subject: str, request: Mapping[str, Any] | None = None, *, times: int = 1) -> Any:
        """The answer to a request where both are JSON. Raises BusUnavailable, NobodyAnswers.

        It is asked so many `times`, in the time of one request: servers of a cluster say nothing as long as the stream
        has no leader.
        """
        data, patience = json.dumps(request).encode() if request else b"", self._settings.command_timeout / times
        for left in reversed(range(times)):
            try:
                return json.loads((await self._ask(_Answers(many=False), subject, data, None, patience))[0].data)
            except BusUnavailable:
                if not left or self.is_over:
                    raise
        raise AssertionError("unreachable")

    async def ask_for_many(self, subject: str, request: Mapping[str, Any]) -> list[Msg]:
        """The answers up to the one that says that it is the last. Raises BusUnavailable, NobodyAnswers."""
        return (await self._ask(_Answers(many=True), subject, json.dumps(request).encode(), None))[:-1]

    async def subscribe(self, subject: str, heard: Callable[[Msg], Awaitable[None]]) -> Subscription:
        """Hear what comes to `subject`. Until `settled` the server may not know of it. Raises BusUnavailable."""
        try:
            return await self._client.subscribe(subject, cb=heard)
        except FAILURES as error:
            raise self._unavailable(error) from error

    async def settled(self) -> None:
        """Return when the server has done what it was told before, such as to subscribe. Raises BusUnavailable."""
        await self._ask(_Answers(many=False), None, b"", None)

    async def leave(self, subscription: Subscription) -> None:
        """End a subscription."""
        with suppress(*FAILURES):
            await subscription.unsubscribe()

    async def aclose(self) -> None:
        """End the connection, at once where the server does not read. Idempotent."""
        self._end()
        try:
            async with asyncio.timeout(CLOSING):
                await self._client.close()
        except FAILURES as error:
            logger.debug("closing a connection to NATS: %s", _named(error))
        finally:
            # Nothing public ends a connection whose server does not read.
            if writer := getattr(self._client._transport, "_bare_io_writer", None):
                writer.transport.abort()
        await asyncio.sleep(0)  # for the tasks that were cancelled

    async def _ask(
        self,
        answers: _Answers,
        subject: str | None,
        data: bytes,
        headers: Mapping[str, str] | None,
        patience: float | None = None,
    ) -> list[Msg]:
        if self.is_over:
            raise self._unavailable(None)
        token = str(next(self._numbers))
        self._waiting[token] = answers
        reply = self._inbox + token
        try:
            async with asyncio.timeout(patience or self._settings.command_timeout):
                if subject is None:
                    await self._client.publish(reply)
                else:
                    await self._client.publish(subject, data, reply, dict(headers) if headers else None)
                await answers.complete
        except FAILURES as error:
            if not isinstance(error, TimeoutError):
                self._end()  # nats-py does not always say so
            raise self._unavailable(error) from error
        finally:
            del self._waiting[token]
            if answers.complete.done() and not answers.complete.cancelled():
                answers.complete.exception()  # who was cancelled has not looked at it
        if answers.messages and status_of(answers.messages[0]) == NO_RESPONDERS:
            raise NobodyAnswers(subject)
        return answers.messages

    async def _on_answer(self, message: Msg) -> None:
        answers = self._waiting.get(message.subject[len(self._inbox) :])
        if answers is None or answers.complete.done():
            return
        answers.messages.append(message)
        if not answers.many or status_of(message):
            answers.complete.set_result(None)

    async def _on_error(self, error: Exception) -> None:
        self._last_error = _named(error)
        logger.debug("NATS at %s: %s", self._settings.shown, self._last_error)

    async def _on_closed(self) -> None:
        self._end()

    def _end(self) -> None:
        self._has_ended = True
        for answers in self._waiting.values():
            if not answers.complete.done():
                answers.complete.set_exception(nats.errors.ConnectionClosedError())

    def _unavailable(self, error: BaseException | None) -> BusUnavailable:
        if isinstance(error, TimeoutError):
            return BusUnavailable(f"NATS at {self._settings.shown} has not answered in time")
        reason = _named(error) if error else self._last_error or "closed"
        return BusUnavailable(f"the connection to NATS at {self._settings.shown} is lost: {reason}")


async def connect(settings: NatsSettings) -> Connection:
    """A connection to one of the servers, which are tried in random order. Raises BusUnavailable."""
    failure = BusUnavailable("NATS has no servers")
    for server in random.sample(settings.servers, len(settings.servers)):
        connection = Connection(settings)
        try:
            await connection.open(server, settings.connect_timeout / len(settings.servers))
        except BusUnavailable as error:
            failure = error
        else:
            return connection
    raise failure


def status_of(message: Msg) -> str:
    """The status of a message that is none but a status; else empty."""
    return (message.headers or {}).get("Status", "") if not message.data else ""


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
