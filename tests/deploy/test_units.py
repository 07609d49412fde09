"""The systemd units: systemd's own check where there is one, and what matters, everywhere."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stagecast.entrypoints import configuration
from stagecast.entrypoints.cli import REFUSED
from stagecast.entrypoints.sse.server import GRACEFUL_SECONDS
from stagecast.entrypoints.sse.settings import EdgeSettings
from tests.deploy.nginx import SHIPPED as NGINX_CONF
from tests.deploy.nginx import directives
from tests.deploy.shipped import (
    DEPLOY,
    assert_known,
    assert_parses,
    environment_file,
    known_variables,
    named_variables,
)

SERVER = DEPLOY / "systemd" / "stagecast-sse@.service"
WORKER = DEPLOY / "systemd" / "stagecast-worker.service"
INSTALLED = "/opt/stagecast/bin/"
PORT = "8000"


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True, comment_prefixes=("#",), delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(path.read_text())
    return parser


def expanded(path: Path, name: str = "ExecStart") -> str:
    """A command of a unit as systemd would run it, as the instance of a port, with the shipped environment."""
    command = unit(path)["Service"][name].replace("%i", PORT)
    environment = environment_file()
    return re.sub(r"(?<!\$)\$\{(\w+)\}", lambda one: environment[one[1]], command).replace("$$", "$")


@pytest.mark.parametrize("path", [SERVER, WORKER], ids=["server", "worker"])
def test_systemd_understands_the_units(path: Path, tmp_path: Path) -> None:
    """`systemd-analyze verify`, where it is, has nothing to say; everywhere the three sections are there."""
    assert unit(path).sections() == ["Unit", "Service", "Install"]
    if (analyze := shutil.which("systemd-analyze")) is None:
        return
    installed = tmp_path / path.name.replace("@", f"@{PORT}")
    installed.write_text(path.read_text().replace(INSTALLED, f"{Path(sys.executable).parent}/"))
    verified = subprocess.run(
        [analyze, "verify", "--man=no", str(installed)], capture_output=True, text=True, timeout=60
    )
    said = [line for line in verified.stderr.splitlines() if installed.name in line]
    assert (verified.returncode, said) == (0, [])


@pytest.mark.parametrize("path", [SERVER, WORKER], ids=["server", "worker"])
def test_the_commands_are_valid(path: Path) -> None:
    """Our own parser, and Celery's, take them; systemd, which needs a whole path, gets one."""
    command = expanded(path)
    assert command.startswith(INSTALLED)
    assert_parses(command)
    assert "EnvironmentFile=/etc/stagecast/stagecast.env\n" in path.read_text()


def test_the_worker_takes_the_queue_of_the_seed() -> None:
    """`-Q llm`, with the application that the environment names."""
    words = shlex.split(expanded(WORKER))
    assert words[words.index("-Q") + 1] == "llm"
    assert words[words.index("-A") + 1] == environment_file()["CELERY_APP"]


def test_an_end_is_given_the_time_that_it_takes() -> None:
    """R112: longer than a server's grace, and long enough for a task; a signal to the worker's main process alone."""
    server, worker = unit(SERVER)["Service"], unit(WORKER)["Service"]
    assert int(server["TimeoutStopSec"]) > 2 * GRACEFUL_SECONDS
    assert int(worker["TimeoutStopSec"]) >= 300
    assert worker["KillMode"] == "mixed", "Celery's children are not to see the signal"
    assert server["KillSignal"] == worker["KillSignal"] == "SIGTERM"
    for service in (server, worker):
        assert service["Restart"] == "on-failure"
    assert server["RestartPreventExitStatus"] == str(REFUSED)


def test_there_are_descriptors_for_all_connections() -> None:
    """As many as the server allows streams, and nginx twice as many as its own connections need."""
    assert int(unit(SERVER)["Service"]["LimitNOFILE"]) > EdgeSettings().connections
    (connections,), (files,) = directives("worker_connections"), directives("worker_rlimit_nofile")
    assert int(files) > int(connections) >= 1024
    assert f"server 127.0.0.1:{PORT} " in NGINX_CONF.read_text(), "nginx looks for it where the unit's example has it"


@pytest.mark.parametrize("path", [SERVER, WORKER], ids=["server", "worker"])
def test_the_units_are_hardened(path: Path) -> None:
    """No root, no new privileges, nothing to write to."""
    service = unit(path)["Service"]
    assert service["DynamicUser"] == "yes"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""


def test_all_variables_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the environment file, set or not, and those that any file or page of deployment speaks of."""
    assert_known(set(environment_file()))
    pages = [*DEPLOY.rglob("*.*"), DEPLOY.parent / "docs" / "deploying.md"]
    named = {name for page in pages if page.is_file() for name in named_variables(page.read_text())}
    assert "STAGECAST_JWT_SECRET" in named
    foreign = {"STAGECAST_TLS", "STAGECAST_TOKEN"}  # of compose.yaml itself, and of the doctor
    # A section may stand for its settings.
    assert_known({name for name in named - foreign if not any(one.startswith(f"{name}_") for one in known_variables())})
    for name, value in environment_file().items():
        monkeypatch.setenv(name, value)
    assert configuration.bus_url() == environment_file()["STAGECAST_BUS"]


@pytest.mark.parametrize(("secret", "code"), [(None, 2), ("", 2), ("short", 2), ("x" * 32, 0)])
def test_a_server_behind_nginx_needs_a_secret(secret: str | None, code: int) -> None:
    """Everybody comes from loopback there, so the unit itself refuses to serve without one."""
    environment = {key: value for key, value in os.environ.items() if key != "STAGECAST_JWT_SECRET"}
    if secret is not None:
        environment["STAGECAST_JWT_SECRET"] = secret
    command = shlex.split(expanded(SERVER, "ExecStartPre"))
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
    assert ended.returncode == code
    assert ("STAGECAST_JWT_SECRET" in ended.stderr) == bool(code)
