"""The composition root: schemes to buses, third parties' transports, one shared bus a process."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from stagecast.adapters.memory import MemoryBus
from stagecast.adapters.redis.bus import RedisBus
from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import NotConfigured
from stagecast.entrypoints import wiring


def run(script: str) -> str:
    """The output of a script in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://", MemoryBus),
        ("redis://localhost:1/5", RedisBus),
        ("rediss://user:secret@localhost:1/5?ssl_cert_reqs=none", RedisBus),
        ("unix:///nowhere.sock?db=1", RedisBus),
    ],
)
def test_schemes_name_buses(url: str, kind: type) -> None:
    """Each scheme has its adapter; opening connects to nothing."""
    bus = wiring.open_bus(url)
    assert isinstance(bus, kind)
    assert bus is not wiring.open_bus(url)


def test_limits_are_the_environments_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument wins over STAGECAST_* variables."""
    monkeypatch.setenv("STAGECAST_LIMITS_LOG_LENGTH", "77")
    assert wiring.open_bus("memory://").limits.log_length == 77
    assert wiring.open_bus("memory://", BusLimits(log_length=99)).limits.log_length == 99


@pytest.mark.parametrize("url", ["kafka://localhost", "localhost:6379", "", "http://x"])
def test_unknown_schemes_are_refused_with_the_known_ones(url: str) -> None:
    """The message lists what there is."""
    with pytest.raises(NotConfigured, match=r"no transport for .*memory://.*redis://"):
        wiring.open_bus(url)


def test_shared_bus_is_one_for_each_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process has one bus for a URL, whoever asks; without a URL that of the environment."""
    monkeypatch.setattr(wiring, "_shared", {})
    bus = wiring.shared_bus("memory://")
    assert wiring.shared_bus("memory://") is bus
    assert wiring.shared_bus("memory://?other") is not bus
    monkeypatch.setenv("STAGECAST_BUS", "memory://")
    assert wiring.shared_bus() is bus


def test_a_forked_child_has_a_shared_bus_of_its_own() -> None:
    """What the parent made is not used after a fork, also where the fork comes while the parent makes one."""
    script = """
        import os, sys
        from stagecast.entrypoints import wiring
        bus = wiring.shared_bus("memory://")
        wiring._shared_lock.acquire()
        pid = os.fork()
        if pid == 0:
            print("other" if wiring.shared_bus("memory://") is not bus else "same", flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        wiring._shared_lock.release()
        print("same" if wiring.shared_bus("memory://") is bus else "other")
    """
    assert run(script).split() == ["other", "same"]


def test_importing_brings_no_transport() -> None:
    """Neither the package nor its wiring imports redis before a redis bus is opened."""
    script = """
        import sys
        import stagecast, stagecast.entrypoints.wiring as wiring
        wiring.open_bus("memory://")
        print("redis" in sys.modules, "celery" in sys.modules, "starlette" in sys.modules)
        wiring.open_bus("redis://localhost:1")
        print("redis" in sys.modules)
    """
    assert run(script).split() == ["False", "False", "False", "True"]


def test_a_missing_package_is_named_with_what_to_install() -> None:
    """Without the extra, the message says which one it is."""
    script = """
        import sys
        class Without:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "redis":
                    raise ModuleNotFoundError(name="redis")
        sys.meta_path.insert(0, Without())
        from stagecast.domain.errors import NotConfigured
        from stagecast.entrypoints.wiring import open_bus
        try:
            open_bus("redis://localhost")
        except NotConfigured as error:
            print(error)
    """
    assert run(script) == "a redis:// bus needs the package redis: pip install 'stagecast[redis]'"


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution that brings transports."""
    information = tmp_path / "carrier_pigeon-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier-pigeon\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[stagecast.transports]\npigeon = carrier_pigeon:open_pigeon\nowl = carrier_owl:open_owl\n"
        "redis = carrier_pigeon:open_pigeon\n"
    )
    (tmp_path / "carrier_pigeon.py").write_text(
        "from stagecast.adapters.memory import MemoryBus\n"
        "def open_pigeon(url, codec, limits):\n"
        "    bus = MemoryBus(codec, limits)\n"
        "    bus.url = url\n"
        "    return bus\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("third_party")
def test_third_parties_bring_transports() -> None:
    """An entry point of the group `stagecast.transports` is found by its scheme and given the whole URL."""
    bus = wiring.open_bus("pigeon://roof/3", BusLimits(lease=3.0))
    assert getattr(bus, "url", None) == "pigeon://roof/3"
    assert bus.limits.lease == 3.0


@pytest.mark.usefixtures("third_party")
def test_third_parties_do_not_replace_ours() -> None:
    """A scheme that stagecast has stays stagecast's."""
    assert isinstance(wiring.open_bus("redis://localhost:1"), RedisBus)


@pytest.mark.usefixtures("third_party")
def test_third_parties_that_are_broken_are_named() -> None:
    """A transport whose module is missing says which."""
    with pytest.raises(NotConfigured, match=r"owl:// bus needs the package carrier_owl: install carrier_owl"):
        wiring.open_bus("owl://")
    with pytest.raises(NotConfigured, match=r"owl://.*pigeon://"):
        wiring.open_bus("eagle://")


@pytest.mark.parametrize(
    "url", ["redis://[::1:6379", "redis://localhost:port", "redis://localhost:6379/0?socket_timeout=x"]
)
def test_a_url_that_is_none_is_told_as_such(url: str) -> None:
    """A malformed URL is NotConfigured when the bus is opened, not an error of a library at its first use."""
    with pytest.raises(NotConfigured):
        wiring.open_bus(url)
