"""Who is asked: the access policy that is configured."""

from collections.abc import Sequence
from importlib import import_module

from attrs import asdict

from stagecast.adapters.callables import CallablePolicy
from stagecast.domain.access import AccessPolicy
from stagecast.domain.errors import NotConfigured
from stagecast.entrypoints import configuration
from stagecast.entrypoints.configuration import AccessSettings, JwtSettings

_SHORTEST = 32
"""Bytes of a secret, as HS256 needs them."""


def configured_policy() -> AccessPolicy | None:
    """The policy that the configuration names, the team's own or JWT. Raises NotConfigured where it cannot be had."""
    configured = configuration.current()
    own, jwt = configured.access.policy, configured.jwt
    if jwt == JwtSettings():
        return policy_at(own) if own else None
    if own:
        raise NotConfigured("there are two access policies, access.policy and jwt: take one away")
    from stagecast.adapters.jwt import JwtAccessPolicy

    return JwtAccessPolicy(**asdict(jwt, recurse=False))


def policy_at(path: str) -> AccessPolicy:
    """The policy at `package.module:name`: what it needs no arguments for. Raises NotConfigured."""
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise NotConfigured(f"access.policy is not package.module:name: {path!r}")
    try:
        found = getattr(import_module(module), name)
    except Exception as error:  # the module is somebody else's
        raise NotConfigured(f"access.policy: {path}: {type(error).__name__}: {error}") from error
    return CallablePolicy.of(found, path)


def ticket_secrets(policy: AccessPolicy | None, settings: AccessSettings) -> Sequence[str]:
    """What the tickets' key is derived from, the first to sign; none where nothing is secret. Raises NotConfigured."""
    if secret := settings.ticket_secret:
        if len(secret.encode()) < _SHORTEST:
            raise NotConfigured(f"access.ticket_secret needs {_SHORTEST} bytes or more")
        return [secret]
    given: object = getattr(policy, "secrets", ())
    return given if isinstance(given, tuple) else ()
