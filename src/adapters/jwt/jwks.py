"""A set of public keys (RFC 7517) at a URL or in a file, fetched anew where a token names a key that is not known."""

import asyncio
import ipaddress
import json
import logging
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import closing
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from stagecast.domain.errors import AccessUnavailable, NotConfigured

from .keys import Key, checked, no_cryptography

logger = logging.getLogger("stagecast.access")

PAUSE = 5.0
"""Seconds between the begins of two fetches: unknown keys are free to invent."""
MAX_AGE = 300.0
"""Seconds after which the set is looked at again although it has what is asked for: a key may have been withdrawn."""
PATIENCE = 5.0
"""Seconds that a token waits for a fetch, and that the server may be silent."""
DEADLINE = 10.0
"""Seconds that a fetch may take in all."""
LARGEST = 256 * 1024
_MOST = 200
_KINDS = {"RSA", "EC", "OKP"}
"""No symmetric ones: who can read the set could sign."""


class Jwks:
    """Serves any number of event loops. A file is read at once, a URL when the first token comes.

    Raises NotConfigured for a source that cannot be one: a URL without TLS elsewhere than on this machine.
    """

    def __init__(
        self, jwt: ModuleType, source: str, algorithms: list[str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._jwt, self._source, self._algorithms, self._clock = jwt, source, algorithms, clock
        self._keys: Mapping[tuple[str, str], Key] = {}
        self._loaded = self._began = -float("inf")
        self._fetching: Future[bool] = Future()
        self._fetching.set_result(False)
        self._lock = threading.Lock()
        if not jwt.algorithms.has_crypto:
            raise no_cryptography(algorithms[0])
        if _is_url(source):
            _assert_safe(source)
        else:
            try:
                self._keys = self._parsed(_read(source))
            except (OSError, ValueError) as error:
                raise NotConfigured(f"jwt.jwks: {source}: {error}") from error
            self._loaded = clock()

    async def find(self, kid: str, algorithm: str) -> Key | None:
        """The key of that name for that algorithm; None where there is none.

        Raises AccessUnavailable where it is not known because the set cannot be had.
        """
        found = self._keys.get((kid, algorithm))
        if found is not None:
            if self._clock() - self._loaded > MAX_AGE:
                self._fetch()
            return found
        try:
            async with asyncio.timeout(PATIENCE):
                is_up_to_date = await asyncio.wrap_future(self._fetch())
        except TimeoutError as error:
            raise AccessUnavailable("the keys of the tokens cannot be had in time") from error
        found = self._keys.get((kid, algorithm))
        if found is None and not is_up_to_date:
            raise AccessUnavailable("the keys of the tokens cannot be had")
        return found

    def _fetch(self) -> "Future[bool]":
        """The fetch that runs, a new one, or, shortly after it, the last one: whether it has succeeded."""
        with self._lock:
            if self._fetching.done() and self._clock() - self._began >= PAUSE:
                self._began = self._clock()
                self._fetching = Future()
                self._fetching.set_running_or_notify_cancel()  # nobody who waits can cancel it for the others
                thread = threading.Thread(target=self._load, args=(self._fetching,), name="stagecast-jwks", daemon=True)
                thread.start()
            return self._fetching

    def _load(self, fetching: "Future[bool]") -> None:
        try:
            self._keys = self._parsed(_read(self._source))
            self._loaded = self._clock()
        except Exception as error:  # whatever it is, the old keys hold and those who wait are told
            logger.warning("the keys of %s cannot be had: %s", _shown(self._source), error)
            fetching.set_result(False)
        else:
            fetching.set_result(True)

    def _parsed(self, text: bytes) -> Mapping[tuple[str, str], Key]:
        """By name and algorithm. Raises ValueError where there is none that can be used."""
        try:
            given = json.loads(text)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        listed = given.get("keys") if isinstance(given, dict) else None
        keys = {}
        for one in listed[:_MOST] if isinstance(listed, list) else []:
            if not isinstance(one, dict) or not isinstance(kid := one.get("kid"), str):
                continue
            if one.get("kty") not in _KINDS or one.get("use", "sig") != "sig":
                continue
            for name in self._algorithms:
                if one.get("alg", name) == name and (material := self._material(one, name)) is not None:
                    keys[kid, name] = Key(material, [name])
        if not keys:
            raise ValueError(f"there is no key with a kid for {', '.join(self._algorithms)}")
        return keys

    def _material(self, one: dict[str, Any], algorithm: str) -> Any:
        try:
            return checked(self._jwt, algorithm, self._jwt.PyJWK(one, algorithm).key, "")
        except (self._jwt.PyJWTError, NotConfigured, ValueError, TypeError, KeyError):
            return None  # of another kind, curve or length


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Elsewhere is not where the operator has said that the keys are, and could be without TLS."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _is_url(source: str) -> bool:
    return "://" in source


def _assert_safe(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, scheme = parts.hostname or "", parts.scheme
    except ValueError:
        host, scheme = "", ""
    if not host or scheme not in {"https", "http"}:
        raise NotConfigured("jwt.jwks is no https URL and no path")
    if scheme == "http" and not _is_loopback(host):
        raise NotConfigured(f"jwt.jwks: keys from {host} by http could be anybody's: use https")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read(source: str) -> bytes:
    """Raises OSError and ValueError."""
    if not _is_url(source):
        with open(source, "rb") as file:
            return _bounded(file.read(LARGEST + 1))
    deadline = time.monotonic() + DEADLINE
    request = urllib.request.Request(source, headers={"Accept": "application/json"})  # noqa: S310  # see _assert_safe
    parts = bytearray()
    with closing(urllib.request.build_opener(_NoRedirect).open(request, timeout=PATIENCE)) as answer:
        while part := answer.read1(65536):
            parts += part
            _bounded(parts)
            if time.monotonic() > deadline:
                raise TimeoutError(f"it takes more than {DEADLINE:g} s")
    return bytes(parts)


def _bounded(read: bytes | bytearray) -> bytes:
    if len(read) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST} bytes")
    return bytes(read)


def _shown(source: str) -> str:
    """Without what may be a secret."""
    return source.partition("?")[0].rpartition("@")[2] if _is_url(source) else source
