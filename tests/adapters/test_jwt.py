"""The JWT policy with secrets: which tokens it takes, and what their claims grant."""

import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from stagecast.adapters.jwt import JwtAccessPolicy
from stagecast.domain.access import AccessRequest, Action
from stagecast.domain.errors import AccessDenied, NotConfigured, Unauthenticated
from tests.sse.tokens import SECRET, token

OTHER_SECRET = "another secret of the tests, long enough"
HERE, ISSUER = "stagecast", "https://login.example"


def wish(
    credentials: str | None, project: str = "123", stage: str | None = None, action: Action = "read"
) -> AccessRequest:
    return AccessRequest(project=project, stage=stage, token=credentials, action=action)


@pytest.fixture(scope="module")
def policy() -> JwtAccessPolicy:
    return JwtAccessPolicy(SECRET)


@pytest.mark.parametrize("projects", [["123"], [123], ["7", "123"], "*"])
async def test_a_listed_project_is_granted(policy: JwtAccessPolicy, projects: object) -> None:
    """The claim `projects` is a list of ids, as text or numbers, or "*"; access ends with the token."""
    access = await policy.authorize(wish(token(projects=projects, sub="ann", seconds=60)))
    assert access.principal == "ann"
    assert access.expires_at is not None
    assert 50 < access.expires_at - time.time() <= 60


@pytest.mark.parametrize(
    "projects", [["124"], [], "123", None, {"123": True}, [True], [["123"]], ["*"], 123.0, ["12", "3"]]
)
async def test_another_project_is_denied(policy: JwtAccessPolicy, projects: object) -> None:
    """Whatever the claim is, only what it lists is granted."""
    with pytest.raises(AccessDenied):
        await policy.authorize(wish(token(projects=projects)))


STAGES: list[tuple[dict[str, Any], str | None, bool]] = [
    ({}, None, True),
    ({}, "rewrite", True),
    ({"stages": ["rewrite"]}, "rewrite", True),
    ({"stages": ["rewrite", "video"]}, "video", True),
    ({"stages": ["rewrite"]}, "video", False),
    ({"stages": ["rewrite"]}, None, False),
    ({"stages": []}, "rewrite", False),
    ({"stages": None}, "rewrite", False),
    ({"stages": "rewrite"}, "rewrite", False),
    ({"stages": "*"}, "rewrite", False),
    ({"stages": {"rewrite": 1}}, "rewrite", False),
    ({"stages": [["rewrite"]]}, "rewrite", False),
    ({"stages": [None]}, None, False),
]


@pytest.mark.parametrize(("claims", "stage", "granted"), STAGES)
async def test_stages_narrow_a_project(
    policy: JwtAccessPolicy, claims: dict[str, Any], stage: str | None, granted: bool
) -> None:
    """Where the claim `stages` is there, these stages alone are granted, and not the project's whole stream."""
    wished = wish(token(projects=["123"], **claims), stage=stage)
    if granted:
        await policy.authorize(wished)
    else:
        with pytest.raises(AccessDenied):
            await policy.authorize(wished)


ACTIONS: list[tuple[dict[str, Any], Action, bool]] = [
    ({}, "read", True),
    ({}, "cancel", False),
    ({"actions": ["read"]}, "read", True),
    ({"actions": ["read"]}, "cancel", False),
    ({"actions": ["cancel"]}, "cancel", True),
    ({"actions": ["cancel"]}, "read", False),
    ({"actions": ["read", "cancel"]}, "cancel", True),
    ({"actions": ["read", "publish", 1]}, "read", True),
    ({"actions": []}, "read", False),
    ({"actions": "read"}, "read", False),
    ({"actions": "*"}, "cancel", False),
    ({"actions": ["*"]}, "cancel", False),
    ({"actions": None}, "read", False),
    ({"actions": {"cancel": True}}, "cancel", False),
    ({"actions": [["cancel"]]}, "cancel", False),
    ({"actions": True}, "cancel", False),
]


@pytest.mark.parametrize(("claims", "action", "granted"), ACTIONS)
async def test_actions_are_granted_by_name(
    policy: JwtAccessPolicy, claims: dict[str, Any], action: Action, granted: bool
) -> None:
    """A token without the claim `actions` reads, and cancels nothing; a claim of another form grants nothing."""
    wished = wish(token(projects="*", **claims), stage="rewrite", action=action)
    if granted:
        await policy.authorize(wished)
    else:
        with pytest.raises(AccessDenied):
            await policy.authorize(wished)


UNTRUSTWORTHY: dict[str, Callable[[], str | None]] = {
    "none": lambda: None,
    "empty": lambda: "",
    "garbage": lambda: "garbage",
    "three parts": lambda: "a.b.c",
    "not ascii": lambda: "é.é.é",
    "surrogate": lambda: "\ud83d",
    "deep": lambda: f"{'W1tb' * 9000}.e30.e30",
    "expired": lambda: token(projects="*", seconds=-1),
    "endless": lambda: token(projects="*", seconds=None),
    "another secret": lambda: token(projects="*", secret=OTHER_SECRET),
    "no algorithm": lambda: token(projects="*", secret="", algorithm="none"),
    "another algorithm": lambda: token(projects="*", secret=SECRET * 2, algorithm="HS512"),
    "end is no number": lambda: token(projects="*", exp="soon", seconds=None),
    "end is a text": lambda: token(projects="*", exp=str(int(time.time()) + 60), seconds=None),
    "end is nothing": lambda: token(projects="*", exp=None, seconds=None),
    "end is true": lambda: token(projects="*", exp=True, seconds=None),
    "end is infinite": lambda: token(projects="*", exp=float("inf"), seconds=None),
    "end is no float": lambda: token(projects="*", exp=10**400, seconds=None),
    "not yet": lambda: token(projects="*", nbf=time.time() + 3600),
    "subject is no text": lambda: token(projects="*", sub=["ann"]),
    "for somebody else": lambda: token(projects="*", aud="another"),
    "signature too long": lambda: token(projects="*") + "x",
    "no signature": lambda: token(projects="*").rpartition(".")[0] + ".",
}


@pytest.mark.parametrize("kind", UNTRUSTWORTHY)
async def test_an_untrustworthy_token_is_no_authentication(policy: JwtAccessPolicy, kind: str) -> None:
    """R138: expired, without an end, forged, of another algorithm or malformed; never another error."""
    with pytest.raises(Unauthenticated):
        await policy.authorize(wish(UNTRUSTWORTHY[kind]()))


@pytest.mark.parametrize(
    ("claims", "taken"),
    [
        ({"iss": ISSUER, "aud": HERE}, True),
        ({"iss": ISSUER, "aud": ["another", HERE]}, True),
        ({"iss": ISSUER, "aud": "another"}, False),
        ({"iss": ISSUER, "aud": [HERE, 1]}, False),
        ({"iss": ISSUER}, False),
        ({"iss": f"{ISSUER}/", "aud": HERE}, False),
        ({"aud": HERE}, False),
    ],
)
async def test_issuer_and_audience_are_checked(claims: dict[str, Any], taken: bool) -> None:
    """Where they are configured a token has to name exactly them."""
    policy = JwtAccessPolicy(SECRET, issuer=ISSUER, audience=HERE)
    wished = wish(token(projects="*", **claims))
    if taken:
        await policy.authorize(wished)
    else:
        with pytest.raises(Unauthenticated):
            await policy.authorize(wished)


async def test_clocks_may_differ_by_the_leeway() -> None:
    """A token that is over by less is taken, and access ends when the leeway does."""
    just_over = token(projects="*", seconds=-5)
    access = await JwtAccessPolicy(SECRET, leeway=30).authorize(wish(just_over))
    assert access.expires_at is not None
    assert 15 < access.expires_at - time.time() <= 25
    with pytest.raises(Unauthenticated, match="expired"):
        await JwtAccessPolicy(SECRET, leeway=2).authorize(wish(just_over))


async def test_former_secrets_are_still_taken() -> None:
    """While tokens of the old secret are about; without it in the list they are forged."""
    old, new = token(projects="*", secret=OTHER_SECRET), token(projects="*")
    rotating = JwtAccessPolicy(SECRET, former_secrets=[OTHER_SECRET])
    for one in (old, new):
        await rotating.authorize(wish(one))
    with pytest.raises(Unauthenticated, match="expired"):
        await rotating.authorize(wish(token(projects="*", secret=OTHER_SECRET, seconds=-1)))
    with pytest.raises(Unauthenticated):
        await rotating.authorize(wish(token(projects="*", secret=SECRET + OTHER_SECRET)))
    with pytest.raises(Unauthenticated):
        await JwtAccessPolicy(SECRET).authorize(wish(old))


@pytest.mark.parametrize("name", ["HS384", "HS512"])
async def test_other_hashes_are_taken_where_they_are_configured(name: str) -> None:
    """And then no others."""
    long = "a secret of the tests that is even long enough for HS512, with its 64 bytes"
    policy = JwtAccessPolicy(long, algorithms=[name])
    await policy.authorize(wish(token(projects="*", secret=long, algorithm=name)))
    with pytest.raises(Unauthenticated):
        await policy.authorize(wish(token(projects="*", secret=long)))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"secret": ""}, "secret"),
        ({"secret": "x" * 31}, "31 bytes"),
        ({"secret": SECRET, "former_secrets": ["short"]}, "5 bytes"),
        ({"secret": SECRET, "algorithms": ["HS512"]}, "44 bytes"),
        ({"secret": "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----"}, "secret"),
        ({"secret": '{"kty": "oct", "k": "c2VjcmV0IHNlY3JldCBzZWNyZXQ"}'}, "secret"),
        ({"secret": SECRET, "algorithms": ["none"]}, "'none'"),
        ({"secret": SECRET, "algorithms": ["HS256", "nOnE"]}, "'nOnE'"),
        ({"secret": SECRET, "algorithms": []}, "algorithms"),
        ({"secret": SECRET, "algorithms": ["HS256", "RS256"]}, "of one kind"),
        ({"secret": SECRET, "algorithms": ["RS256"]}, "jwt.secret"),
        ({"secret": SECRET, "jwks": "https://login.example/keys"}, "secret and jwks"),
        ({"algorithms": ["RS256"]}, "cannot be verified"),
    ],
)
def test_what_cannot_protect_is_refused(options: dict[str, Any], reason: str) -> None:
    """A short secret, a public key as one, no key, and mixtures in which a public key could count as a secret."""
    with pytest.raises(NotConfigured, match=reason) as caught:
        JwtAccessPolicy(**options)
    assert SECRET not in str(caught.value)
    JwtAccessPolicy("x" * 32)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyJWT the message says what to install."""
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(NotConfigured, match=r"pip install 'stagecast\[jwt\]'"):
        JwtAccessPolicy(SECRET)
