"""The configuration of a process: what can be set, and where it is looked for.

Knows the settings of each part, and of the parts themselves nothing.

Each setting has one name: `log_length` of the section `limits` is STAGECAST_LIMITS_LOG_LENGTH in the environment and in
Django's settings, and `log_length` below `[stagecast.limits]` in the file that STAGECAST_CONFIG names. Where several
places name it, the first of these counts: what the program gave to `configure`, Django's settings, the environment,
the file, the default (ADR 0014).
"""

import os
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any, TypeAlias

from attrs import field, fields, frozen, has, validators

from stagecast.adapters.redis.settings import ConnectionSettings, SeedChannels
from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import NotConfigured

from .sse.settings import CorsSettings, EdgeSettings

CONFIG_VARIABLE = "STAGECAST_CONFIG"
DJANGO_VARIABLE = "DJANGO_SETTINGS_MODULE"
SEED_VARIABLES = ("REDIS_URL", "REDIS_PUBSUB_URL", "CELERY_BROKER_URL")
"""Where a bus is looked for that no setting names, in this order; CELERY_BROKER_URL counts only where it is a Redis."""

_Found: TypeAlias = Iterator[tuple[str, str, object]]
"""What a place has: the path of a setting (`bus`, `limits.log_length`), its name there, its value."""


def _set(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(texts)


@frozen(kw_only=True)
class AccessSettings:
    """Who may follow, beside what a token says. Without a policy, this one's or that of `jwt`, nothing is protected."""

    policy: str = ""
    """The team's own policy, `package.module:name`: a function, or a class with `authorize`."""
    open_routes: bool = False
    """Whether the routes without `stream/` stay open, to everybody, although there is a policy."""
    ticket_secret: str = field(default="", repr=False)
    """Signs the tickets, 32 bytes or more. Without one their key is derived from `jwt.secret`."""
    ticket_seconds: float = field(default=30.0, validator=(validators.gt(0), validators.le(300)))
    """Seconds that a ticket may be used, once."""


@frozen(kw_only=True)
class JwtSettings:
    """The access policy that a bearer token must satisfy. `stagecast.adapters.jwt` says what fits together."""

    secret: str = field(default="", repr=False)
    """Signs the tokens (HS256), 32 bytes or more."""
    former_secrets: frozenset[str] = field(factory=frozenset, converter=_set, repr=False)
    """Secrets whose tokens are still taken."""
    public_key: str = ""
    """Verifies the tokens that somebody else signs: PEM, or the path of a file with it."""
    jwks: str = ""
    """The same for a set of keys, which change: its https URL, or the path of a file."""
    algorithms: frozenset[str] = field(default=frozenset({"HS256"}), converter=_set)
    """How tokens are signed: HS256, HS384, HS512 with secrets, else RS256, PS256, ES256, EdDSA and their like."""
    issuer: str = ""
    """Whose tokens are taken alone (`iss`)."""
    audience: str = ""
    """For whom a token has to be (`aud`)."""
    leeway: float = field(default=0.0, validator=(validators.ge(0), validators.le(300)))
    """Seconds that clocks may differ."""


@frozen(kw_only=True)
class CelerySettings:
    """What tasks of the base class `StageTask`, and blocks of `stage_run`, publish."""

    error_text: str = field(default="safe", validator=validators.in_(("safe", "type", "full")))
    """What viewers are told of an exception: `safe` an id that the log has too, `type` its type besides, `full` its
    own text, which may name hosts, paths and secrets. What `publish_error` is given is shown as it is."""


@frozen(kw_only=True)
class Configuration:
    """All that can be set."""

    bus: str = ""
    """The URL of the bus."""
    allow_public: bool = False
    """Serve streams that no access policy protects to other machines too."""
    limits: BusLimits = field(factory=BusLimits)
    redis: ConnectionSettings = field(factory=ConnectionSettings)
    seed: SeedChannels = field(factory=SeedChannels)
    sse: EdgeSettings = field(factory=EdgeSettings)
    cors: CorsSettings = field(factory=CorsSettings)
    access: AccessSettings = field(factory=AccessSettings)
    jwt: JwtSettings = field(factory=JwtSettings)
    celery: CelerySettings = field(factory=CelerySettings)


def _types() -> Iterator[tuple[str, Any]]:
    for one in fields(Configuration):
        kind: Any = one.type
        if has(kind):
            yield from ((f"{one.name}.{inner.name}", inner.type) for inner in fields(kind))
        else:
            yield one.name, kind


TYPES: dict[str, Any] = dict(_types())
"""The type of each setting, by its path."""
_SECTIONS: dict[str, Any] = {one.name: one.type for one in fields(Configuration) if has(one.type or object)}

_SECRETS = {"bus", "jwt.secret", "jwt.former_secrets", "jwt.public_key", "access.ticket_secret"}
"""A URL can have a password."""

_given: Mapping[str, Any] = {}


def configure(settings: Mapping[str, Any]) -> None:
    """Settings of the program that embeds stagecast: names and sections as in the file. Replaces those given before.

    What is open already keeps what it was opened with. Raises NotConfigured, and changes nothing, for a name that is
    none and for an impossible value.
    """
    global _given
    before, _given = _given, settings
    try:
        current()
    except NotConfigured:
        _given = before
        raise


def current() -> Configuration:
    """The configuration now. Raises NotConfigured, naming place and setting, for what cannot be used."""
    found: dict[str, tuple[str, object]] = {}
    in_django = _django()
    places = (
        _seed_variables(in_django),
        _file(),
        _named(_in_environment),
        _named(in_django),
        _nested(_given, "configure()"),
    )
    for place in places:
        found.update({path: (name, _converted(name, value, path)) for path, name, value in place})
    values: dict[str, Any] = {path: value for path, (_, value) in found.items() if "." not in path}
    for section, kind in _SECTIONS.items():
        inner = {path: value for path, (_, value) in found.items() if path.startswith(f"{section}.")}
        try:
            values[section] = kind(**{path.partition(".")[2]: value for path, value in inner.items()})
        except (ValueError, NotConfigured) as error:
            raise NotConfigured(f"{', '.join(found[path][0] for path in inner)}: {error.args[0]}") from error
    return Configuration(**values)


def bus_url() -> str:
    """The URL of the bus. Raises NotConfigured where none is named."""
    if url := current().bus:
        return url
    raise NotConfigured(
        "no bus is configured: set STAGECAST_BUS, for example to redis://localhost:6379/0, "
        "or to memory:// for everything in one process"
    )


def variable_of(path: str) -> str:
    """The name of a setting in the environment and in Django's settings; `path` is `section.name`."""
    return f"STAGECAST_{path.replace('.', '_').upper()}"


def _seed_variables(in_django: Callable[[str], object]) -> _Found:
    for name in SEED_VARIABLES:
        url = str(in_django(name) or _in_environment(name) or "")
        if url and (name != "CELERY_BROKER_URL" or url.startswith(("redis", "sentinel"))):
            yield "bus", name, url
            return


def _file() -> _Found:
    if not (path := os.environ.get(CONFIG_VARIABLE, "").strip()):
        return
    try:
        with open(path, "rb") as file:
            settings = tomllib.load(file).get("stagecast", {})
        if not isinstance(settings, Mapping):
            raise ValueError("stagecast is not a table")
    except (OSError, ValueError) as error:  # a ValueError too: what is no TOML, or not UTF-8
        raise NotConfigured(f"{CONFIG_VARIABLE}: {path}: {error}") from error
    yield from _nested(settings, path)


def _named(value_of: Callable[[str], object]) -> _Found:
    for path in TYPES:
        name = variable_of(path)
        if (value := value_of(name)) is not None:
            yield path, name, value


def _nested(settings: Mapping[str, Any], place: str) -> _Found:
    for name, value in settings.items():
        is_section = name in _SECTIONS and isinstance(value, Mapping)
        for path, one in {f"{name}.{key}": it for key, it in value.items()}.items() if is_section else [(name, value)]:
            if path not in TYPES:
                raise NotConfigured(f"{place}: there is no setting {path}")
            yield path, f"{place}: {path}", one


def _in_environment(name: str) -> str | None:
    """A blank value, as deployments have it, is none."""
    return os.environ.get(name, "").strip() or None


def _django() -> Callable[[str], object]:
    """What Django's settings have, where Django is configured or DJANGO_SETTINGS_MODULE says that it will be."""
    is_announced = bool(os.environ.get(DJANGO_VARIABLE))
    module: Any = sys.modules.get("django.conf")
    if module is None and is_announced:
        with suppress(ModuleNotFoundError):  # the variable of somebody else's shell: there is no Django here
            module = import_module("django.conf")
    if module is None or not (module.settings.configured or is_announced):
        return lambda name: None

    def value_of(name: str) -> object:
        try:
            return getattr(module.settings, name, None)
        except ImportError as error:
            raise NotConfigured(f"{DJANGO_VARIABLE}: {error}") from error

    return value_of


def _converted(name: str, value: object, path: str) -> object:
    read, wanted = _READERS[TYPES[path]]
    try:
        return read(value)
    except (ValueError, KeyError):
        shown = "" if path in _SECRETS else f": {value!r}"
        raise NotConfigured(f"{name} is not {wanted}{shown}") from None  # its cause would show the value


def _to_int(value: object) -> int:
    if isinstance(value, bool | float) or not isinstance(value, int | str):
        raise ValueError(value)
    return int(value)


def _to_float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(value)
    return float(value)


_BOOLEANS = {"1": True, "true": True, "on": True, "yes": True, "0": False, "false": False, "off": False, "no": False}


def _to_bool(value: object) -> bool:
    return value if isinstance(value, bool) else _BOOLEANS[str(value).lower()]


def _to_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(value)
    return value


def _to_texts(value: object) -> frozenset[str]:
    """A list, or a text with commas or spaces between."""
    parts = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(parts, Iterable):
        raise ValueError(value)
    return frozenset(_to_text(one) for one in parts)


_READERS: dict[Any, tuple[Callable[[object], object], str]] = {
    int: (_to_int, "a whole number"),
    float: (_to_float, "a number"),
    bool: (_to_bool, "true or false"),
    str: (_to_text, "a text"),
    frozenset[str]: (_to_texts, "a list of texts"),
}
