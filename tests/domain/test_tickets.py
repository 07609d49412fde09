"""Tickets as texts: only what we have signed, unaltered and in time, is one."""

import json
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from stagecast.domain.access import Access
from stagecast.domain.errors import Unauthenticated
from stagecast.domain.tickets import LARGEST, Ticket, TicketSigner, lifetime
from stagecast.domain.topics import Topic

SECRET, OTHER = "a secret of the tests, long enough", "another secret of the tests, long enough"
NOW = 1_000_000.0
TICKET = Ticket("one", Topic("123", "rewrite"), NOW + 30, Access(principal="ann", expires_at=NOW + 60))
SIGNER = TicketSigner([SECRET])


@pytest.mark.parametrize(
    "ticket",
    [
        TICKET,
        evolve(TICKET, topic=Topic("123")),
        evolve(TICKET, topic=Topic("项目", "écrire")),
        evolve(TICKET, access=Access(principal="")),
    ],
)
def test_what_is_signed_is_read(ticket: Ticket) -> None:
    """All of it, by whoever has the secret, also where it is the former one by now; in an URL as it is."""
    text = SIGNER.signed(ticket)
    assert text.isascii()
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    for signer in (SIGNER, TicketSigner([SECRET]), TicketSigner([OTHER, SECRET])):
        assert signer.read(text, NOW) == ticket


@pytest.mark.parametrize("position", range(0, 400, 7))
def test_a_changed_letter_is_no_ticket(position: int) -> None:
    """Neither of what it says nor of its signature, the last letter included."""
    text = SIGNER.signed(TICKET)
    at = min(position, len(text) - 1)
    for letter in ("A", "B", "", "é"):
        if (changed := text[:at] + letter + text[at + 1 :]) != text:
            with pytest.raises(Unauthenticated):
                SIGNER.read(changed, NOW)


@pytest.mark.parametrize(
    "text",
    ["", ".", "a.b", "é.é", "\ud83d", SIGNER.signed(TICKET) + "=", "." + SIGNER.signed(TICKET), "x" * (LARGEST + 1)],
)
def test_garbage_is_no_ticket(text: str) -> None:
    """And no other error."""
    with pytest.raises(Unauthenticated):
        SIGNER.read(text, NOW)


def test_others_signatures_do_not_count() -> None:
    """Of another secret, and of the same one for servers that share no memory of what was used."""
    for other in (TicketSigner([OTHER]), TicketSigner([SECRET], b"of another process")):
        with pytest.raises(Unauthenticated):
            SIGNER.read(other.signed(TICKET), NOW)
        with pytest.raises(Unauthenticated):
            other.read(SIGNER.signed(TICKET), NOW)


@pytest.mark.parametrize(("now", "is_over"), [(NOW, False), (NOW + 29.9, False), (NOW + 30, True), (NOW + 99, True)])
def test_a_ticket_is_over_at_its_time(now: float, is_over: bool) -> None:
    """Not a moment later."""
    text = SIGNER.signed(TICKET)
    if is_over:
        with pytest.raises(Unauthenticated, match="over"):
            SIGNER.read(text, now)
    else:
        assert SIGNER.read(text, now) == TICKET


@pytest.mark.parametrize(("end", "seconds"), [(None, 30), (NOW + 3600, 30), (NOW + 5, 5), (NOW - 1, -1)])
def test_a_ticket_lives_no_longer_than_its_grant(end: float | None, seconds: float) -> None:
    """The shorter of both."""
    assert lifetime(Access(principal="", expires_at=end), NOW, 30) == seconds


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
def test_no_text_is_a_ticket(text: str) -> None:
    """Whatever comes as one: it is refused, and nothing else happens."""
    with pytest.raises(Unauthenticated):
        SIGNER.read(text, NOW)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3))
def test_what_a_token_says_is_no_ticket(claims: dict[str, Any]) -> None:
    """A JWT that the same secret has signed is none: the tickets' key is another."""
    import jwt

    with pytest.raises(Unauthenticated):
        SIGNER.read(jwt.encode(claims | {"exp": json.loads("9e9")} | {"iss": "a"}, SECRET), NOW)
