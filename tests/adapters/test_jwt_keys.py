"""The JWT policy with public keys: each kind verifies its own tokens, and none is ever a secret."""

import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.utils import base64url_encode

from stagecast.adapters.jwt import JwtAccessPolicy
from stagecast.adapters.jwt import keys as keys_module
from stagecast.domain.access import AccessRequest
from stagecast.domain.errors import NotConfigured, Unauthenticated
from tests.sse.tokens import SECRET, token

RSA, OTHER_RSA = (rsa.generate_private_key(65537, 2048) for _ in range(2))
P256, P384, P521 = (ec.generate_private_key(curve()) for curve in (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1))
ED = ed25519.Ed25519PrivateKey.generate()

KINDS: dict[str, Any] = {
    "RS256": RSA,
    "RS512": RSA,
    "PS256": RSA,
    "PS384": RSA,
    "ES256": P256,
    "ES384": P384,
    "ES512": P521,
    "EdDSA": ED,
}


def pem(key: Any) -> str:
    """The public half, as others have it."""
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def private_pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def wish(credentials: str) -> AccessRequest:
    return AccessRequest(project="123", stage=None, token=credentials)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("of_file", [False, True])
async def test_each_kind_verifies_its_tokens(name: str, of_file: bool, tmp_path: Path) -> None:
    """By the key's text or the path of its file; a token of another key, algorithm or of a secret is refused."""
    key = KINDS[name]
    given = pem(key)
    if of_file:
        path = tmp_path / "key.pem"
        path.write_text(given)
        given = str(path)
    policy = JwtAccessPolicy(public_key=given, algorithms=[name])
    await policy.authorize(wish(token(secret=key, algorithm=name, projects="*")))
    other, its_key = next((other, its_key) for other, its_key in KINDS.items() if other != name)
    for wrong in (
        token(secret=its_key, algorithm=other, projects="*"),
        token(secret=OTHER_RSA, algorithm="RS256", projects="*"),
        token(projects="*"),
        token(secret="", algorithm="none", projects="*"),
    ):
        with pytest.raises(Unauthenticated):
            await policy.authorize(wish(wrong))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("claimed", ["HS256", "as it is"])
async def test_a_public_key_is_no_secret(name: str, claimed: str) -> None:
    """Who signs by HMAC with the key that everybody has is refused, whatever `alg` the token claims."""
    public = pem(KINDS[name])
    header = {"typ": "JWT", "alg": name if claimed == "as it is" else claimed}
    body = ".".join(
        base64url_encode(json.dumps(part).encode()).decode() for part in (header, {"projects": "*", "exp": 2**33})
    )
    forged = hmac.digest(public.encode(), body.encode(), hashlib.sha256)
    policy = JwtAccessPolicy(public_key=public, algorithms=[name])
    with pytest.raises(Unauthenticated):
        await policy.authorize(wish(f"{body}.{base64url_encode(forged).decode()}"))


WRONG: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "with a secret's algorithm": (lambda: {"public_key": pem(RSA), "algorithms": ["HS256"]}, "jwt.public_key"),
    "by default": (lambda: {"public_key": pem(RSA)}, "HS256 cannot be verified with jwt.public_key"),
    "of another kind": (lambda: {"public_key": pem(P256), "algorithms": ["RS256"]}, "cannot be used"),
    "of another curve": (lambda: {"public_key": pem(P384), "algorithms": ["ES256"]}, "cannot be used"),
    "one of two fits": (lambda: {"public_key": pem(RSA), "algorithms": ["RS256", "ES256"]}, "cannot be used"),
    "too short": (
        lambda: {"public_key": pem(rsa.generate_private_key(65537, 1024)), "algorithms": ["RS256"]},
        "1024 bits",
    ),
    "private": (lambda: {"public_key": private_pem(RSA), "algorithms": ["RS256"]}, "private key"),
    "no file": (lambda: {"public_key": "/nowhere/key.pem", "algorithms": ["RS256"]}, "No such file or directory"),
    "garbage": (
        lambda: {"public_key": "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----", "algorithms": ["RS256"]},
        "cannot be used",
    ),
    "beside a secret": (lambda: {"public_key": pem(RSA), "secret": SECRET, "algorithms": ["RS256"]}, "one way"),
    "with former secrets": (
        lambda: {"public_key": pem(RSA), "former_secrets": [SECRET], "algorithms": ["RS256"]},
        "former_secrets",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_key_that_cannot_be_used_is_refused(kind: str) -> None:
    """When the server starts, with the reason; a private key is not repeated."""
    options, reason = WRONG[kind][0](), WRONG[kind][1]
    with pytest.raises(NotConfigured, match=reason) as caught:
        JwtAccessPolicy(**options)
    assert "MII" not in str(caught.value)


def test_a_missing_cryptography_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it PyJWT knows secrets only."""

    def unknown(name: str) -> Any:
        raise NotImplementedError(name)

    monkeypatch.setattr(jwt, "get_algorithm_by_name", unknown)
    for make in (
        lambda: JwtAccessPolicy(public_key=pem(RSA), algorithms=["RS256"]),
        lambda: keys_module.checked(jwt, "RS256", pem(RSA), ""),
    ):
        with pytest.raises(NotConfigured, match="cryptography"):
            make()
