"""Attempts with tokens: forged, over, of another key or kind, with claims of any type, and for something else."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from jwt.algorithms import RSAAlgorithm

from tests.adapters.test_jwt_keys import OTHER_RSA, RSA, pem
from tests.security.attacks import (
    MINE,
    SECRET,
    Attempt,
    Call,
    World,
    assert_refused,
    cancel,
    granted,
    now,
    reading,
    signed,
    without,
)
from tests.sse.tokens import bearer


def part(said: object) -> str:
    text = said if isinstance(said, str) else json.dumps(said)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def by_hand(header: object, claims: object, key: str = SECRET, digest: str = "sha256") -> str:
    """A token as no library makes it; with an empty key it has no signature."""
    body = f"{part(header)}.{part(claims)}"
    signature = hmac.digest(key.encode(), body.encode(), getattr(hashlib, digest)) if key else b""
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


HS256 = {"typ": "JWT", "alg": "HS256"}


def claims(project: str, **more: Any) -> dict[str, Any]:
    return {
        "projects": [project],
        "iss": "https://login.example",
        "aud": "streams",
        "sub": "ann",
        "exp": now(60),
        **more,
    }


def tampered(project: str) -> str:
    """Another's claims under one's own signature."""
    header, _, signature = signed(MINE).split(".")
    return f"{header}.{signed(project).split('.')[1]}.{signature}"


def of_key(project: str, key: Any = RSA, **said: Any) -> str:
    return signed(project, secret=key, algorithm="RS256", **said)


def flipped(token: str) -> str:
    return token[:-10] + ("A" if token[-10] != "A" else "B") + token[-9:]


def refused_token(name: str, made: Any, status: int = 401, server: str = "one") -> Attempt:
    """Reading with what `made` gives for a project."""
    twins: dict[str, Any] = {
        "one": lambda _, p: granted(p),
        "rsa": lambda _, p: reading(p, of_key(p), server="rsa"),
        "jwks": lambda _, p: reading(p, of_key(p, kid="first"), server="jwks"),
    }
    return Attempt(name, lambda _, p: reading(p, made(p), server=server), status, twins[server])


JWK = RSAAlgorithm.to_jwk(OTHER_RSA.public_key(), as_dict=True)

FORGED = [
    refused_token("garbage", lambda _: "garbage"),
    refused_token("no token", lambda _: None),
    refused_token("empty bearer", lambda _: ""),
    refused_token("only dots", lambda _: ".."),
    refused_token("one part too many", lambda p: signed(p) + ".AAAA"),
    refused_token("forged signature", lambda p: signed(p, secret="x" * 64)),
    refused_token("a flipped bit", lambda p: flipped(signed(p))),
    refused_token("signature cut", lambda p: signed(p)[:-4]),
    refused_token("signature removed", lambda p: signed(p).rpartition(".")[0] + "."),
    refused_token("claims swapped", tampered),
    refused_token("alg none", lambda p: by_hand({"alg": "none"}, claims(p), "")),
    refused_token("alg None", lambda p: by_hand({"alg": "None"}, claims(p), "")),
    refused_token("alg nOnE with a signature", lambda p: by_hand({"alg": "nOnE"}, claims(p))),
    refused_token("no alg", lambda p: by_hand({"typ": "JWT"}, claims(p))),
    refused_token("alg of another type", lambda p: by_hand({"alg": ["HS256"]}, claims(p))),
    refused_token("alg that was not chosen", lambda p: by_hand({"alg": "HS512"}, claims(p), digest="sha512")),
    refused_token("signed with nothing", lambda p: by_hand(HS256, claims(p), "")),
    refused_token("header is no JSON", lambda p: by_hand("{", claims(p))),
    refused_token("header is a list", lambda p: by_hand([HS256], claims(p))),
    refused_token("unknown crit", lambda p: by_hand({**HS256, "crit": ["x"], "x": 1}, claims(p))),
    refused_token("payload is no JSON", lambda _: by_hand(HS256, "no JSON")),
    refused_token("payload is a list", lambda p: by_hand(HS256, [claims(p)])),
    refused_token("payload nested deeply", lambda _: by_hand(HS256, "[" * 6000)),
    refused_token("other RSA key", lambda p: of_key(p, OTHER_RSA), server="rsa"),
    refused_token("HS256 with the public key", lambda p: by_hand(HS256, claims(p), pem(RSA)), server="rsa"),
    refused_token("HS256 with the key's line", lambda p: by_hand(HS256, claims(p), pem(RSA).strip()), server="rsa"),
    refused_token("secret of HS256 where keys are public", signed, server="rsa"),
    refused_token("kid of another key", lambda p: of_key(p, kid="second"), server="jwks"),
    refused_token("kid unknown", lambda p: of_key(p, kid="third"), server="jwks"),
    refused_token("kid missing", of_key, server="jwks"),
    refused_token(
        "kid is a path", lambda p: by_hand({**HS256, "kid": "../../../dev/null"}, claims(p), ""), server="jwks"
    ),
    refused_token("kid is SQL", lambda p: of_key(p, OTHER_RSA, kid="first' OR '1'='1"), server="jwks"),
    refused_token("kid is a list", lambda p: by_hand({"alg": "RS256", "kid": ["first"]}, claims(p)), server="jwks"),
    refused_token(
        "HS256 under a kid", lambda p: by_hand({**HS256, "kid": "first"}, claims(p), pem(RSA)), server="jwks"
    ),
    refused_token(
        "own key in the header",
        lambda p: by_hand({"alg": "RS256", "jwk": JWK, "jku": "https://evil.example/", "kid": "first"}, claims(p)),
        server="jwks",
    ),
]

OVER = [
    refused_token("expired", lambda p: signed(p, seconds=-1)),
    refused_token("expired long ago", lambda p: signed(p, seconds=-1e9)),
    refused_token("not yet valid", lambda p: signed(p, nbf=now(600))),
    refused_token("issued in the future", lambda p: signed(p, iat=now(600))),
    refused_token("exp missing", lambda p: signed(p, seconds=None)),
    *(
        refused_token(
            f"exp is {name}", lambda p, exp=exp: by_hand(HS256, json.dumps(claims(p)).replace('"exp": ', exp))
        )
        for name, exp in {
            "null": '"exp": null, "was": ',
            "a text": '"exp": "9999999999", "was": ',
            "infinite": '"exp": 1e999, "was": ',
            "no number": '"exp": NaN, "was": ',
            "huge": f'"exp": {"9" * 400}, "was": ',
            "true": '"exp": true, "was": ',
            "a list": '"exp": [9999999999], "was": ',
        }.items()
    ),
    refused_token("nbf is a text", lambda p: signed(p, nbf="x")),
    refused_token("other audience", lambda p: signed(p, aud="billing")),
    refused_token("audiences without ours", lambda p: signed(p, aud=["billing", "streams2"])),
    refused_token("no audience", lambda p: signed(p, **without("aud"))),
    refused_token("audience is an object", lambda p: by_hand(HS256, claims(p, aud={"streams": 1}))),
    refused_token("other issuer", lambda p: signed(p, iss="https://login.example.evil.example")),
    refused_token("no issuer", lambda p: signed(p, **without("iss"))),
    refused_token("issuer is a list", lambda p: by_hand(HS256, claims(p, iss=["https://login.example"]))),
    refused_token("sub is a number", lambda p: by_hand(HS256, claims(p, sub=7))),
    refused_token("sub is a list", lambda p: by_hand(HS256, claims(p, sub=["ann"]))),
]

PROJECTS: dict[str, Any] = {
    "of another project": lambda _: [MINE],
    "missing": lambda _: ...,
    "null": lambda _: None,
    "empty": lambda _: [],
    "a text": lambda p: p,
    "true": lambda _: True,
    "a number": lambda _: 1,
    "an object": lambda p: {p: True},
    "a list in a list": lambda p: [[p]],
    "a list with *": lambda _: ["*"],
    "** ": lambda _: "**",
    "a pattern": lambda p: [p[:5] + "*", ".*"],
    "a beginning": lambda p: [p[:-1]],
    "longer": lambda p: [p + "x", f" {p}", f"{p}\0"],
    "in capitals": lambda p: [p.upper()],
    "encoded": lambda p: [f"{p}%00", p.replace("-", "%2D")],
    "with its stage": lambda p: [f"{p}/rewrite", f"{p}:rewrite"],
}
STAGES: dict[str, Any] = {
    "of another stage": ["video"],
    "null": None,
    "empty": [],
    "a text": "rewrite",
    "a star": "*",
    "a list with *": ["*"],
    "an object": {"rewrite": True},
    "nested": [["rewrite"]],
}
ACTIONS: dict[str, Any] = {
    "of cancelling": ["cancel"],
    "null": None,
    "empty": [],
    "a text": "read",
    "a star": "*",
    "a list with *": ["*"],
    "in capitals": ["READ"],
    "an object": {"read": True},
}


def cancelling(project: str, **said: Any) -> Call:
    return Call(cancel(project), tuple(bearer(signed(project, **said)).items()), "POST")


def refused_cancel(name: str, **said: Any) -> Attempt:
    return Attempt(name, lambda _, p: cancelling(p, **said), 403, lambda _, p: cancelling(p))


OF_SOMETHING_ELSE = [
    *(
        refused_token(f"projects {name}", lambda p, of=of: signed(p, projects=of(p)), 403)
        for name, of in PROJECTS.items()
    ),
    *(
        refused_token(f"stages {name}", lambda p, stages=stages: signed(p, stages=stages), 403)
        for name, stages in STAGES.items()
    ),
    *(
        refused_token(f"actions {name}", lambda p, actions=actions: signed(p, actions=actions), 403)
        for name, actions in ACTIONS.items()
    ),
    Attempt(
        "the project's stream with a token of a stage",
        lambda _, p: reading(p, signed(p, stages=["rewrite"]), stage=None, query="delta=1"),
        403,
        lambda _, p: reading(p, signed(p, stages=["rewrite"])),
    ),
    Attempt("HEAD with another's token", lambda _, p: reading(p, signed(MINE), method="HEAD"), 403),
    refused_cancel("cancel with a token that reads", actions=["read"]),
    refused_cancel("cancel with a token that says no action", actions=...),
    refused_cancel("cancel of another project", projects=[MINE]),
    refused_cancel("cancel of another stage", stages=["video"]),
]


def shown(name: str, header: Any, status: int = 401) -> Attempt:
    return Attempt(name, lambda _, p: Call(granted(p).target, tuple(header(signed(p)))), status)


SHOWN = [
    shown("Basic", lambda t: [("Authorization", f"Basic {t}")]),
    shown("Digest", lambda t: [("Authorization", f'Digest username="ann", response="{t}"')]),
    shown("Negotiate", lambda t: [("Authorization", f"Negotiate {t}")]),
    shown("scheme Token", lambda t: [("Authorization", f"Token {t}")]),
    shown("no scheme", lambda t: [("Authorization", t)]),
    shown("a tab", lambda t: [("Authorization", f"Bearer\t{t}")]),
    shown("two headers", lambda t: [("Authorization", f"Bearer {t}"), ("Authorization", "Bearer x")]),
    shown("the same header twice", lambda t: [("Authorization", f"Bearer {t}")] * 2),
    shown("two tokens in one", lambda t: [("Authorization", f"Bearer {t}, Bearer {t}")]),
    shown("a token and more", lambda t: [("Authorization", f"Bearer {t} x")]),
    shown("in quotes", lambda t: [("Authorization", f'Bearer "{t}"')]),
    shown("Proxy-Authorization", lambda t: [("Proxy-Authorization", f"Bearer {t}")]),
    shown("X-Authorization", lambda t: [("X-Authorization", f"Bearer {t}")]),
    shown("no ASCII", lambda _: [("Authorization", "Bearer \u00e9\u4e2d")]),
    shown("a wrong one before a right cookie", lambda t: [*bearer("x").items(), ("Cookie", f"stagecast_token={t}")]),
    shown("a cookie of another name", lambda t: [("Cookie", f"token={t}; Stagecast_Token={t}")]),
]


@pytest.mark.parametrize(
    "attempt", [*FORGED, *OVER, *OF_SOMETHING_ELSE, *SHOWN], ids=lambda attempt: attempt.name.replace(" ", "-")
)
async def test_a_token_that_is_not_good_for_it_is_refused(world: World, attempt: Attempt) -> None:
    """R138: 401 for what is no valid token, 403 for what is one for something else; the twin gets what it may."""
    await assert_refused(world, attempt)
