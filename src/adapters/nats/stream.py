"""The JetStream stream that all projects share: reading, appending by compare-and-swap, removing. Knows no ledger.

Its subjects begin with a name that is made up when the stream is: sequences of a stream that was deleted and made
again begin at 1, and must not be taken for those of the one before. Accepted messages of subjects of the kind `log` are
announced on subjects outside of the stream, headers alone, after they are stored: who hears of one finds it.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from attrs import frozen
from nats.aio.msg import Msg

from stagecast.domain.errors import BusUnavailable

from .commits import LOG
from .connection import Connection, NobodyAnswers, status_of
from .settings import NatsSettings

API = "$JS.API"
NOT_FOUND = "404"
NO_STREAM = 10059
NO_MESSAGE = 10037
NAME_IN_USE = 10058
WRONG_SEQUENCE = {10071, 10164}
TIMES = 8
"""How often the leader is asked before it counts as away."""
BATCH_BYTES = 4 << 20
"""How much is read at once."""
OVERHEAD = 2048
"""Bytes of a message that its headers may take."""
NANOSECOND = 1_000_000_000
_ERA = 1 << 53


@frozen
class Message:
    """A message of the stream."""

    sequence: int
    data: bytes


def announced_on(stream: str, key: str) -> str:
    """The subject on which accepted messages of a project are announced."""
    return f"stagecast-live.{stream}.{key}"


class Stream:
    """The stream as one connection found it; `key` is a project's token in subjects.

    Every method raises BusUnavailable, and NobodyAnswers where the stream is gone.
    """

    def __init__(self, connection: Connection, name: str, root: str, replicas: int, era: int) -> None:
        self._connection, self._name, self._root, self._era = connection, name, root, era
        self._by_leader = replicas > 1
        self.room = connection.max_payload - OVERHEAD
        """Bytes that a message holds at the most."""

    def version_of(self, message: Message) -> int:
        """The sequence of the message, distinct from all sequences of other eras."""
        return self._era * _ERA + message.sequence

    def subject(self, kind: str, key: str) -> str:
        return f"{self._root}.{kind}.{key}"

    async def last(self, kind: str, key: str) -> Message | None:
        """The newest message there is now."""
        subject = self.subject(kind, key)
        if self._by_leader:  # others may not have it yet
            message = await self._from_leader({"last_by_subj": subject})
        else:
            message = _message(await self._connection.ask(f"{API}.DIRECT.GET.{self._name}.{subject}"))
        if message is None:
            await self._check()
        return message

    async def at(self, sequence: int) -> Message | None:
        """The message with this sequence."""
        return await self._single({"seq": sequence})

    async def next(self, kind: str, key: str, sequence: int) -> Message | None:
        """The first message with this sequence or a later one."""
        return await self._single({"seq": max(sequence, 1), "next_by_subj": self.subject(kind, key)})

    async def following(self, kind: str, key: str, sequence: int, count: int) -> list[Message]:
        """The first messages from this sequence on: some, `count` at the most; none only where there are none."""
        request = {
            "seq": max(sequence, 1),
            "next_by_subj": self.subject(kind, key),
            "batch": count,
            "max_bytes": BATCH_BYTES,
        }
        found = [
            _message(one) for one in await self._connection.ask_for_many(f"{API}.DIRECT.GET.{self._name}", request)
        ]
        messages = [one for one in found if one is not None]
        if not messages and self._by_leader and (one := await self.next(kind, key, sequence)):
            messages = [one]
        return messages

    async def append(self, kind: str, key: str, data: bytes) -> int:
        """Store a message; its sequence."""
        sequence = await self._store(kind, key, data, {})
        assert sequence is not None
        return sequence

    async def swap(self, kind: str, key: str, data: bytes, expected: int) -> int | None:
        """Store a message if `expected` is the sequence of the one before it, 0 for none; its sequence, else None."""
        return await self._store(kind, key, data, {"Nats-Expected-Last-Subject-Sequence": str(expected)})

    async def remove_below(self, kind: str, key: str, sequence: int) -> None:
        """Remove all messages with smaller sequences."""
        request = {"filter": self.subject(kind, key), "seq": sequence}
        _checked(await self._connection.ask_json(f"{API}.STREAM.PURGE.{self._name}", request))

    async def remove(self, sequence: int) -> None:
        """Remove one message, which may be gone already."""
        request = {"seq": sequence, "no_erase": True}
        await self._connection.ask_json(f"{API}.STREAM.MSG.DELETE.{self._name}", request)

    async def _check(self) -> None:
        """Raise NobodyAnswers where another stream has taken the name: it has none of these subjects, and says so."""
        answer = await self._connection.ask_json(f"{API}.STREAM.INFO.{self._name}", times=TIMES)
        if _root_of(_checked(answer)["config"]) != self._root:
            raise NobodyAnswers(self._root)

    async def _single(self, request: Mapping[str, Any]) -> Message | None:
        answer = await self._connection.ask(f"{API}.DIRECT.GET.{self._name}", json.dumps(request).encode())
        message = _message(answer)
        return await self._from_leader(request) if message is None and self._by_leader else message

    async def _from_leader(self, request: Mapping[str, Any]) -> Message | None:
        answer = await self._connection.ask_json(f"{API}.STREAM.MSG.GET.{self._name}", request, times=TIMES)
        if _code_of(answer) == NO_MESSAGE:
            return None
        message = _checked(answer)["message"]
        return Message(message["seq"], base64.b64decode(message.get("data", "")))

    async def _store(self, kind: str, key: str, data: bytes, headers: Mapping[str, str]) -> int | None:
        headers = {"Nats-Expected-Stream": self._name, **headers}
        answer = json.loads((await self._connection.ask(self.subject(kind, key), data, headers)).data)
        if _code_of(answer) in WRONG_SEQUENCE:
            return None
        sequence: int = _checked(answer)["seq"]
        return sequence


async def open_stream(connection: Connection, settings: NatsSettings, max_age: float, era: int) -> Stream:
    """The stream of the settings' name, made if there is none. Raises BusUnavailable."""
    name = settings.stream
    try:
        while True:
            answer = await connection.ask_json(f"{API}.STREAM.INFO.{name}", times=TIMES)
            if _code_of(answer) != NO_STREAM:
                break
            root = f"stagecast.{uuid4().hex[:16]}"
            config = _config(name, root, settings.replicas, max_age)
            answer = await connection.ask_json(f"{API}.STREAM.CREATE.{name}", config)
            if _code_of(answer) != NAME_IN_USE:  # somebody was first
                break
        config = _checked(answer)["config"]
        root = _root_of(config)
        if 0 < config["max_age"] < max_age * NANOSECOND:
            config["max_age"] = int(max_age * NANOSECOND)
            _checked(await connection.ask_json(f"{API}.STREAM.UPDATE.{name}", config))
    except NobodyAnswers:
        raise BusUnavailable(f"NATS at {settings.shown} has no JetStream, or no leader of it now") from None
    return Stream(connection, name, root, config["num_replicas"], era)


def _config(name: str, root: str, replicas: int, max_age: float) -> dict[str, Any]:
    return {
        "name": name,
        "subjects": [f"{root}.>"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "max_age": int(max_age * NANOSECOND),
        "allow_direct": True,
        "republish": {"src": f"{root}.{LOG}.*", "dest": announced_on(name, "{{wildcard(1)}}"), "headers_only": True},
    }


def _root_of(config: Mapping[str, Any]) -> str:
    """What the subjects of the stream begin with. Raises BusUnavailable for a stream that is not ours."""
    name, subjects = config["name"], config.get("subjects") or [""]
    root: str = subjects[0].removesuffix(".>")
    announces = config.get("republish", {}).get("dest") == announced_on(name, "{{wildcard(1)}}")
    if len(subjects) != 1 or not subjects[0].endswith(".>") or not config.get("allow_direct") or not announces:
        raise BusUnavailable(f"the JetStream stream {name} was not made by stagecast: name another by ?stream=")
    return root


def _message(answer: Msg) -> Message | None:
    status = status_of(answer)
    if status == NOT_FOUND:
        return None
    headers = answer.headers or {}
    if status or "Nats-Sequence" not in headers:
        raise BusUnavailable(f"JetStream answers {status} {headers.get('Description', '')}".rstrip())
    return Message(int(headers["Nats-Sequence"]), answer.data)


def _checked(answer: Any) -> Any:
    """The answer, if it tells no error. Raises NobodyAnswers where the stream is gone, else BusUnavailable."""
    if _code_of(answer) == NO_STREAM:
        raise NobodyAnswers(answer["error"]["description"])
    if error := answer.get("error"):
        raise BusUnavailable(f"JetStream answers {error.get('err_code')}: {error.get('description')}")
    return answer


def _code_of(answer: Any) -> int | None:
    code: int | None = answer.get("error", {}).get("err_code")
    return code
