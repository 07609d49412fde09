"""The configuration: its places and their order, its names, and what an impossible value is told."""

import os
import subprocess
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import NotConfigured
from stagecast.entrypoints import configuration
from stagecast.entrypoints.configuration import Configuration, bus_url, configure, current

ALL = {
    "STAGECAST_BUS": "memory://",
    "REDIS_URL": "redis://one",
    "REDIS_PUBSUB_URL": "redis://two",
    "CELERY_BROKER_URL": "redis://three",
}


@pytest.fixture(autouse=True)
def _nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("STAGECAST_", "REDIS_", "CELERY_", "DJANGO_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(configuration, "_given", {})


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets variables."""

    def set_(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes the file that STAGECAST_CONFIG names."""

    def write(text: str) -> Path:
        path = tmp_path / "stagecast.toml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv("STAGECAST_CONFIG", str(path))
        return path

    return write


@pytest.fixture
def django(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Settings of a Django that is in use."""

    def use(**settings: Any) -> None:
        module = SimpleNamespace(settings=SimpleNamespace(configured=True, **settings))
        monkeypatch.setitem(sys.modules, "django.conf", module)

    return use


def test_nothing_set_is_the_defaults() -> None:
    """And no bus."""
    assert current() == Configuration()
    with pytest.raises(NotConfigured, match="STAGECAST_BUS"):
        bus_url()


def test_the_bus_is_looked_for_in_order(environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """STAGECAST_BUS, REDIS_URL, REDIS_PUBSUB_URL, CELERY_BROKER_URL."""
    environment(**ALL)
    for name, url in ALL.items():
        assert bus_url() == url
        monkeypatch.delenv(name)


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
def test_a_blank_variable_is_none(blank: str, environment: Any) -> None:
    """An empty value, as deployments have it, does not hide the next variable."""
    environment(**{**ALL, "STAGECAST_BUS": blank, "STAGECAST_LIMITS_LEASE": blank})
    assert bus_url() == "redis://one"
    assert current().limits == BusLimits()


@pytest.mark.parametrize("url", ["amqp://guest@localhost//", "sqs://", "memory://", "db+sqlite:///x"])
def test_a_broker_that_is_no_redis_does_not_count(url: str, environment: Any) -> None:
    """A RabbitMQ broker is no bus."""
    environment(CELERY_BROKER_URL=url)
    with pytest.raises(NotConfigured):
        bus_url()


@pytest.mark.parametrize("url", ["redis://h/5", "rediss://h/5", "redis+sentinel://h/5"])
def test_a_redis_broker_counts(url: str, environment: Any) -> None:
    """Whatever its variety."""
    environment(CELERY_BROKER_URL=url)
    assert bus_url() == url


def test_each_place_wins_over_the_next(environment: Any, file: Any, django: Any) -> None:
    """configure(), Django's settings, the environment, the file, the default; each setting for itself."""
    file("[stagecast.limits]\nlog_length = 100\nlease = 1\nevent_bytes = 2000\nqueue_deadline = 4.5\n")
    environment(STAGECAST_LIMITS_LOG_LENGTH="200", STAGECAST_LIMITS_LEASE="2", STAGECAST_LIMITS_EVENT_BYTES="3000")
    django(STAGECAST_LIMITS_LOG_LENGTH=300, STAGECAST_LIMITS_LEASE=3)
    configure({"limits": {"log_length": 400}})
    limits = current().limits
    assert (limits.log_length, limits.lease, limits.event_bytes) == (400, 3.0, 3000)
    assert (limits.queue_deadline, limits.time_to_live) == (4.5, BusLimits().time_to_live)


def test_the_seeds_names_are_read_from_djangos_settings(environment: Any, django: Any) -> None:
    """Before the environment, as the seed's module has it."""
    environment(REDIS_URL="redis://environment")
    django(REDIS_URL="redis://django", CELERY_BROKER_URL="redis://broker")
    assert bus_url() == "redis://django"
    django(CELERY_BROKER_URL="redis://broker")
    assert bus_url() == "redis://environment"


def test_a_django_that_is_not_in_use_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking it would raise: it has no settings."""

    class Unconfigured:
        configured = False

        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

    monkeypatch.setitem(sys.modules, "django.conf", SimpleNamespace(settings=Unconfigured()))
    assert current() == Configuration()


def test_the_command_line_reads_the_settings_of_the_project_it_is_started_in(tmp_path: Path) -> None:
    """DJANGO_SETTINGS_MODULE names them; a module that cannot be imported is said by that name."""
    (tmp_path / "own_settings.py").write_text('REDIS_URL = "redis://127.0.0.1:1/7"\nSECRET_KEY = "x"\n')

    def doctor(module: str) -> str:
        environ = {**os.environ, "DJANGO_SETTINGS_MODULE": module}
        command = [sys.executable, "-m", "stagecast.entrypoints.cli", "doctor"]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        return done.stdout + done.stderr

    assert "redis://127.0.0.1:1/7" in doctor("own_settings")
    assert "DJANGO_SETTINGS_MODULE: No module named 'nowhere'" in doctor("nowhere")


def test_every_setting_can_be_set_everywhere(environment: Any, file: Any) -> None:
    """The file's and the environment's names of all settings, with their types."""
    values: dict[str, Any] = {
        "bus": "memory://",
        "allow_public": True,
        "limits.log_length": 500,
        "limits.time_to_live": 60.0,
        "limits.event_bytes": 2048,
        "limits.lease": 2.5,
        "limits.queue_deadline": 100.0,
        "limits.events_per_second": 5000.0,
        "redis.max_connections": 7,
        "redis.connect_timeout": 1.5,
        "redis.command_timeout": 2.5,
        "seed.channel": "app:{project_id}:{stage_name}",
        "seed.full_text": True,
        "sse.heartbeat": 5.0,
        "sse.stage_idle": 6.0,
        "sse.project_idle": 7.0,
        "sse.grace": 8.0,
        "sse.patience": 9.0,
        "sse.linger": 10.0,
        "sse.stall": 11.0,
        "sse.connections": 12,
        "sse.project_connections": 13,
        "sse.principal_connections": 14,
        "sse.address_connections": 15,
        "sse.url_bytes": 16,
        "sse.header_bytes": 17,
        "sse.request_seconds": 18.0,
        "sse.hosts": frozenset({"app.test"}),
        "cors.origins": frozenset({"https://a.example", "http://localhost:5173"}),
        "cors.credentials": True,
        "cors.max_age": 15,
        "access.policy": "own.access:policy",
        "access.open_routes": True,
        "access.ticket_secret": "票" * 20,
        "access.ticket_seconds": 12.5,
        "jwt.secret": "密" * 20,
        "jwt.former_secrets": frozenset({"旧" * 20, "古" * 20}),
        "jwt.public_key": "/etc/stagecast/key.pem",
        "jwt.jwks": "https://login.example/keys",
        "jwt.algorithms": frozenset({"RS256", "ES256"}),
        "jwt.issuer": "https://login.example",
        "jwt.audience": "stagecast",
        "jwt.leeway": 2.5,
        "celery.error_text": "full",
    }
    assert set(values) == set(configuration.TYPES)
    nested: dict[str, Any] = {}
    for path, value in values.items():
        section, _, name = path.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = value
    configure(nested)
    wanted = current()
    assert wanted.cors.origins == values["cors.origins"]
    for secret in (wanted.jwt.secret, *wanted.jwt.former_secrets, wanted.access.ticket_secret):
        assert secret not in repr(wanted)

    configure({})
    for path, value in values.items():
        text = ", ".join(sorted(value)) if isinstance(value, frozenset) else str(value)
        environment(**{configuration.variable_of(path): text})
    assert current() == wanted
    for path in values:
        environment(**{configuration.variable_of(path): ""})

    lines: dict[str, list[str]] = {"": []}
    for path, value in values.items():
        section, _, name = path.rpartition(".")
        shown = sorted(value) if isinstance(value, frozenset) else "true" if value is True else repr(value)
        lines.setdefault(section, []).append(f"{name} = {shown}")
    file("\n".join(f"[stagecast{'.' * bool(section)}{section}]\n" + "\n".join(one) for section, one in lines.items()))
    assert current() == wanted


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("STAGECAST_LIMITS_LOG_LENGTH", "many", "STAGECAST_LIMITS_LOG_LENGTH is not a whole number: 'many'"),
        ("STAGECAST_LIMITS_LOG_LENGTH", "1.5", "not a whole number"),
        ("STAGECAST_LIMITS_TIME_TO_LIVE", "1h", "STAGECAST_LIMITS_TIME_TO_LIVE is not a number: '1h'"),
        ("STAGECAST_LIMITS_LOG_LENGTH", "3", "STAGECAST_LIMITS_LOG_LENGTH: .*log_length"),
        ("STAGECAST_LIMITS_TIME_TO_LIVE", "0", "time_to_live"),
        ("STAGECAST_LIMITS_LEASE", "-1", "lease"),
        ("STAGECAST_LIMITS_QUEUE_DEADLINE", "nan", "queue_deadline"),
        ("STAGECAST_SSE_HEARTBEAT", "0", "heartbeat"),
        ("STAGECAST_SSE_HEARTBEAT", "600", "heartbeat"),
        ("STAGECAST_REDIS_MAX_CONNECTIONS", "0", "max_connections"),
        ("STAGECAST_ALLOW_PUBLIC", "perhaps", "STAGECAST_ALLOW_PUBLIC is not true or false: 'perhaps'"),
        ("STAGECAST_SEED_CHANNEL", "app", "STAGECAST_SEED_CHANNEL: the seed's channel must name"),
        ("STAGECAST_SEED_CHANNEL", "{project_id}{", "must name"),
        ("STAGECAST_SEED_CHANNEL", "{0}", "must name"),
        ("STAGECAST_CORS_ORIGINS", "https://a.example/", "STAGECAST_CORS_ORIGINS: .* is not an origin"),
        ("STAGECAST_CORS_CREDENTIALS", "1", "exact origins"),
        ("STAGECAST_JWT_LEEWAY", "-1", "STAGECAST_JWT_LEEWAY: .*leeway"),
        ("STAGECAST_JWT_LEEWAY", "nan", "leeway"),
        ("STAGECAST_ACCESS_TICKET_SECONDS", "0", "STAGECAST_ACCESS_TICKET_SECONDS: .*ticket_seconds"),
        ("STAGECAST_ACCESS_TICKET_SECONDS", "3600", "ticket_seconds"),
        ("STAGECAST_CELERY_ERROR_TEXT", "verbose", "STAGECAST_CELERY_ERROR_TEXT: .*'safe', 'type', 'full'"),
    ],
)
def test_an_impossible_value_is_refused_by_name(name: str, value: str, reason: str, environment: Any) -> None:
    """R127 among them: the message names the variable, and what would do."""
    environment(**{name: value})
    with pytest.raises(NotConfigured, match=reason):
        current()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[stagecast.limits]\nlog_lenght = 3", "there is no setting limits.log_lenght"),
        ("[stagecast.limit]\nlease = 3", "there is no setting limit"),
        ("[stagecast]\nlimits = 3", "there is no setting limits"),
        ("[stagecast.limits]\nlog_length = true", "limits.log_length is not a whole number: True"),
        ("[stagecast.limits]\nlog_length = 100.0", "limits.log_length is not a whole number"),
        ("[stagecast.cors]\norigins = [1]", "cors.origins is not a list of texts"),
        ("[stagecast.cors]\norigins = 1", "cors.origins is not a list of texts"),
        ("[stagecast.jwt]\nsecret = 12345", "jwt.secret is not a text$"),
        ("[stagecast", "stagecast.toml"),
        ("stagecast = 3", "stagecast is not a table"),
    ],
)
def test_an_impossible_file_is_refused(text: str, reason: str, file: Any) -> None:
    """The message names the file and the setting; a misspelt name is no silent default, a secret is not repeated."""
    path = file(text)
    with pytest.raises(NotConfigured, match=reason) as caught:
        current()
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_text_is_refused(file: Any) -> None:
    """One in another encoding than UTF-8."""
    path = file("")
    path.write_bytes('[stagecast]\nbus = "é"'.encode("latin-1"))
    with pytest.raises(NotConfigured, match=str(path)):
        current()


@pytest.mark.parametrize(
    ("section", "name"),
    [("jwt", "secret"), ("jwt", "public_key"), ("access", "ticket_secret"), ("", "bus")],
)
def test_a_secret_is_in_no_message_and_no_traceback(section: str, name: str) -> None:
    """Of the wrong type too, as Django's settings may have it: what is logged shows it nowhere."""
    inner = {name: b"hunter2"}
    with pytest.raises(NotConfigured) as caught:
        configure({section: inner} if section else inner)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_the_variable_of_a_shell_without_django_is_nothing(environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """DJANGO_SETTINGS_MODULE where no Django is installed: it is looked for once, and the rest counts."""
    asked: list[str] = []

    def import_module(name: str) -> Any:
        asked.append(name)
        raise ModuleNotFoundError(name)

    monkeypatch.delitem(sys.modules, "django.conf", raising=False)
    monkeypatch.setattr(configuration, "import_module", import_module)
    environment(DJANGO_SETTINGS_MODULE="config.settings", STAGECAST_BUS="memory://")
    assert bus_url() == "memory://"
    assert asked == ["django.conf"]


def test_a_file_that_is_not_there_is_refused(environment: Any) -> None:
    """Who names a file wants it read."""
    environment(STAGECAST_CONFIG="/nowhere/stagecast.toml")
    with pytest.raises(NotConfigured, match=r"/nowhere/stagecast\.toml"):
        current()


def test_other_tables_of_the_file_are_others(file: Any) -> None:
    """The file may be shared."""
    file('[other]\nlimits = 1\n[stagecast]\nbus = "memory://"\n')
    assert bus_url() == "memory://"


def test_configure_refuses_and_keeps_what_was() -> None:
    """A wrong mapping changes nothing."""
    configure({"bus": "memory://"})
    with pytest.raises(NotConfigured, match=r"configure\(\): there is no setting buss"):
        configure({"buss": "redis://x"})
    assert bus_url() == "memory://"


def test_the_page_lists_every_setting() -> None:
    """docs/configuration.md has the name, the variable and the default of each, and nothing else."""
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    told = {row[0].strip("| `"): (row[1].strip(" `"), row[2].strip(" `")) for row in rows}
    defaults = Configuration()

    def shown(path: str) -> str:
        value: object = defaults
        for name in path.split("."):
            value = getattr(value, name)
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, float):
            return f"{value:g}"
        return ", ".join(sorted(value)) if isinstance(value, frozenset) else str(value or "")

    assert told == {path: (configuration.variable_of(path), shown(path)) for path in configuration.TYPES}
