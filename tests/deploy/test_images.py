"""Dockerfile and compose.yaml, parsed and held against the repository: there is no Docker engine here."""

import fnmatch
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stagecast.adapters.memory import MemoryBus
from stagecast.domain.bus import BusLimits
from stagecast.entrypoints import cli
from stagecast.entrypoints.sse import create_app
from stagecast.entrypoints.sse.server import GRACEFUL_SECONDS, is_loopback
from stagecast.entrypoints.wiring import CODEC
from tests.deploy.nginx import SHIPPED, changed
from tests.deploy.shipped import DEPLOY, ROOT, assert_known, assert_parses
from tests.servers import free_port
from tests.sse.serving import served

STAGES = re.compile(r"(?P<image>\S+)(?: AS (?P<name>\S+))?")


def instructions() -> list[tuple[str, str]]:
    """Name and arguments of each instruction of the Dockerfile."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, arguments.strip()) for name, _, arguments in (line.partition(" ") for line in lines)]


def arguments_of(name: str) -> list[str]:
    return [arguments for found, arguments in instructions() if found == name]


def composed() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = composed()["services"]
    return found


def mounts() -> Iterator[tuple[str, Path, str]]:
    """Service, file and place inside of each file or folder of the host."""
    for name, service in services().items():
        for volume in service.get("volumes", []):
            source, inside = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[:2]
            if source.startswith((".", "/")):
                yield name, DEPLOY / source, inside


def is_ignored(path: str) -> bool:
    """Whether .dockerignore keeps a file of the root from the builder; the last line that fits decides."""
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and fnmatch.fnmatch(path, line.removeprefix("!")):
            ignored = not line.startswith("!")
    return ignored


def test_every_instruction_is_one() -> None:
    """Docker's own names; two stages, of which the last has no compiler and no source."""
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "CMD"}
    assert {name for name, _ in instructions()} == known
    stages = [STAGES.fullmatch(arguments) for arguments in arguments_of("FROM")]
    assert [stage and stage["name"] for stage in stages] == ["build", None]
    images = {stage["image"] for stage in stages if stage}
    assert len(images) == 1, "the environment fits only the Python that it was made with"
    assert next(iter(images)).endswith("-slim")


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    """From the repository's root, which is the context; all that the wheel needs, and nothing that is a secret."""
    copied = set()
    for arguments in arguments_of("COPY"):
        *sources, _ = arguments.split()
        if not sources[0].startswith("--from=build"):
            copied |= set(sources)
            for source in sources:
                assert (ROOT / source).exists()
                assert not is_ignored(source)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {"pyproject.toml", "src", project["project"]["readme"], *project["project"]["license-files"]}
    assert needed == copied
    for path in (".git", ".venv", "deploy", "tests", "examples"):
        assert is_ignored(path)


def test_the_extras_are_ours() -> None:
    """The same pyproject, with extras that it has: enough for the server, with a policy, and for a worker."""
    (install,) = [arguments for arguments in arguments_of("RUN") if "pip install" in arguments]
    found = re.search(r"stagecast-\*\.whl\)\[([a-z,]+)\]", install)
    assert found is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(found[1].split(","))
    assert {"redis", "sse", "jwt", "celery"} <= extras <= set(project["optional-dependencies"])
    image = arguments_of("FROM")[0]
    version = re.search(r"python:(\d+)\.(\d+)", image)
    assert version is not None
    assert (int(version[1]), int(version[2])) >= (3, 11)
    assert f"Programming Language :: Python :: {version[1]}.{version[2]}" in project["classifiers"]


def test_the_server_runs_as_nobody_and_hears_the_signal() -> None:
    """A number for the user, the exec form, SIGTERM; the port that is exposed is the one that it listens on."""
    assert all(user.isdigit() and int(user) > 0 for user in arguments_of("USER"))
    assert [name for name, _ in instructions()].index("USER") > [name for name, _ in instructions()].index("FROM")
    assert arguments_of("STOPSIGNAL") == ["SIGTERM"]
    (command,) = (json.loads(arguments) for arguments in arguments_of("CMD"))
    assert_parses(command)
    options = cli._parser().parse_args(command[1:])
    assert not is_loopback(options.host)
    assert not options.allow_public, "so it starts with a secret only"
    assert arguments_of("EXPOSE") == [str(options.port)]
    names = {word.partition("=")[0] for arguments in arguments_of("ENV") for word in arguments.split()}
    assert_known(names)


def test_the_health_check_tells_a_server_from_none() -> None:
    """Run as it stands: 0 where a server answers, not 0 where none listens."""
    (arguments,) = arguments_of("HEALTHCHECK")
    program, *words = json.loads(arguments.partition("CMD ")[2])
    assert program == "python"

    def code(port: int) -> int:
        at_port = [word.replace("8000", str(port)) for word in words]
        return subprocess.run([sys.executable, *at_port], capture_output=True, timeout=20).returncode

    with served(create_app(MemoryBus(CODEC, BusLimits()))) as server:
        assert code(server.port) == 0
    assert code(free_port()) != 0


def test_every_file_that_compose_mounts_is_there() -> None:
    """But for the certificate, which is the operator's; the build context is the repository's root."""
    found = list(mounts())
    assert {path.name for _, path, _ in found} == {"redis.conf", "nginx.conf", "tasks.py", "tls"}
    for _, path, _ in found:
        assert path.exists() or path == DEPLOY / "tls"
    build = services()["sse"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")


def test_the_services_know_each_other() -> None:
    """Names and addresses that are used are those of services; networks, volumes and conditions exist."""
    found, whole = services(), composed()
    assert found["sse"]["image"] == found["worker"]["image"]
    for name, service in found.items():
        assert set(service["networks"]) <= set(whole["networks"])
        for other in service.get("depends_on", []):
            assert other in found, name
        for variable, value in dict(service.get("environment", {})).items():
            assert_known({variable})
            if variable == "STAGECAST_BUS":
                assert re.fullmatch(r"redis://redis:6379/\d", value)
    assert "healthcheck" in found["redis"], "the others wait for it"
    assert found["sse"]["environment"]["STAGECAST_JWT_SECRET"].startswith("${STAGECAST_JWT_SECRET:?")
    assert set(found["nginx"]["networks"]) & set(found["sse"]["networks"]) == {"front"}
    address = found["nginx"]["networks"]["front"]["ipv4_address"]
    assert found["sse"]["environment"]["FORWARDED_ALLOW_IPS"] == address
    assert "ports" not in {key for name in ("redis", "sse", "worker") for key in found[name]}
    assert found["nginx"]["ports"] == ["80:80", "443:443"]
    assert_parses(found["worker"]["command"])
    assert int(found["sse"]["stop_grace_period"].removesuffix("s")) > 2 * GRACEFUL_SECONDS


def test_nginx_of_compose_asks_the_server_there() -> None:
    """Its command changes the one address in the shipped file, and nothing else."""
    nginx, address = services()["nginx"], services()["sse"]["networks"]["front"]["ipv4_address"]
    (_, _, script) = nginx["command"]
    found = re.search(r"sed '([^']+)' (\S+) >", script)
    assert found is not None
    assert found[2] in {inside for name, _, inside in mounts() if name == "nginx"}
    written = subprocess.run(["sed", found[1], str(SHIPPED)], capture_output=True, text=True, check=True, timeout=10)
    assert written.stdout == changed(SHIPPED.read_text(), {"127.0.0.1:8000": f"{address}:8000"})


@pytest.mark.parametrize("name", ["redis.conf", "nginx.conf", "tasks.py"])
def test_a_file_is_mounted_where_it_is_read(name: str) -> None:
    """The path inside is the one that the service's command, or its working folder, has."""
    ((service, _, inside),) = [found for found in mounts() if found[1].name == name]
    command = " ".join(services()[service]["command"])
    assert inside in command or (Path(inside).parent == Path("/app") and f"-A {Path(inside).stem} " in command)
    assert arguments_of("WORKDIR")[-1] == "/app"
