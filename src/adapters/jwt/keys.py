"""The keys that tokens are verified with, checked before the first token comes."""

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import field, frozen

from stagecast.domain.errors import NotConfigured

SYMMETRIC = frozenset({"HS256", "HS384", "HS512"})
PUBLIC = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})


@frozen
class Key:
    """A key, and what it may verify."""

    material: Any = field(repr=False)
    """As PyJWT takes it."""
    algorithms: list[str]


def package() -> ModuleType:
    """PyJWT. Raises NotConfigured, which says how to install it."""
    try:
        import jwt
    except ModuleNotFoundError as error:
        raise NotConfigured("JWT access needs the package PyJWT: pip install 'stagecast[jwt]'") from error
    return jwt


def separated(algorithms: Iterable[str]) -> tuple[bool, list[str]]:
    """Whether `algorithms` are those of secrets, and their names in order. Raises NotConfigured.

    Never both kinds: a public key, which everybody has, would count as a secret.
    """
    names = sorted(set(algorithms))
    if unknown := [name for name in names if name not in SYMMETRIC | PUBLIC]:
        known = ", ".join(sorted(SYMMETRIC | PUBLIC))
        raise NotConfigured(f"jwt.algorithms: {', '.join(map(repr, unknown))} is none of {known}")
    if not names or (SYMMETRIC.intersection(names) and PUBLIC.intersection(names)):
        raise NotConfigured("jwt.algorithms must be of one kind: HS256, HS384 and HS512, or those of public keys")
    return names[0] in SYMMETRIC, names


def of_secrets(jwt: ModuleType, secrets: Iterable[str], algorithms: list[str]) -> list[Key]:
    """Raises NotConfigured for a secret that is shorter than the hash, or no secret."""
    keys = []
    for secret in secrets:
        for name in algorithms:
            checked(jwt, name, secret, "the JWT secret cannot be used")
        keys.append(Key(secret, algorithms))
    return keys


def of_file_or_text(jwt: ModuleType, public_key: str, algorithms: list[str]) -> Key:
    """The key of a PEM text, or of the file that has one. Raises NotConfigured."""
    text = public_key
    if "-----BEGIN" not in text:
        try:
            text = Path(public_key).read_text("ascii")
        except (OSError, ValueError) as error:
            # Not the text itself: it can be a secret that was meant for jwt.secret.
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise NotConfigured(f"jwt.public_key is neither PEM nor a file that can be read: {reason}") from error
    if "PRIVATE KEY" in text:
        raise NotConfigured("jwt.public_key is a private key, which only those who sign tokens may have")
    fitting = [checked(jwt, name, text.strip(), "jwt.public_key cannot be used") for name in algorithms]
    return Key(fitting[0], algorithms)


def checked(jwt: ModuleType, algorithm: str, key: object, failure: str) -> Any:
    """The key as `algorithm` takes it. Raises NotConfigured, which never shows it."""
    try:
        kind = jwt.get_algorithm_by_name(algorithm)
        prepared = kind.prepare_key(key)
        weakness = kind.check_key_length(prepared)
    except NotImplementedError as error:
        raise no_cryptography(algorithm) from error
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise NotConfigured(f"{failure}: {error}") from error
    if weakness:
        raise NotConfigured(f"{failure}: {weakness}")
    return prepared


def no_cryptography(algorithm: str) -> NotConfigured:
    """What to say where PyJWT knows secrets only."""
    return NotConfigured(f"{algorithm} needs the package cryptography: pip install 'PyJWT[crypto]'")
