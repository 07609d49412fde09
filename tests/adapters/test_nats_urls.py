"""What the URL of a NATS bus says, who is let in by it, and what is never told of it."""

import asyncio
import logging
from pathlib import Path

import pytest

from stagecast import open_bus
from stagecast.adapters.nats.settings import NatsSettings, settings_of
from stagecast.domain.errors import BusUnavailable, NotConfigured
from stagecast.entrypoints.testing.actors import Producer, state
from tests.deploy.nginx import make_certificate
from tests.servers import start_nats
from tests.waiting import eventually

SECRET = "s3cret@:"
QUOTED = "s3cret%40%3A"


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("nats://host", NatsSettings(servers=("host:4222",))),
        ("nats://one:1,two,[::1]:3,[::1]/", NatsSettings(servers=("one:1", "two:4222", "[::1]:3", "[::1]:4222"))),
        (f"nats://user:{QUOTED}@host", NatsSettings(servers=("host:4222",), user="user", password=SECRET)),
        (f"nats://{QUOTED}@host", NatsSettings(servers=("host:4222",), token=SECRET)),
        (
            "nats+tls://host?stream=MINE&replicas=3&connect_timeout=1.5&command_timeout=2&tls_ca=/ca.pem",
            NatsSettings(
                servers=("host:4222",),
                tls=True,
                stream="MINE",
                replicas=3,
                connect_timeout=1.5,
                command_timeout=2.0,
                tls_ca="/ca.pem",
            ),
        ),
    ],
)
def test_a_url_says(url: str, settings: NatsSettings) -> None:
    """Servers, credentials and options."""
    assert settings_of(url) == settings


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nats://", "nats://host:4222"),
        ("nats://host/0", "nats://host:4222"),
        ("nats://host,", "nats://host:4222"),
        ("nats://host:port", "nats://host:4222"),
        ("nats://user:s3cret/more@host", "percent-encoded"),
        ("nats://user:s3cret#more@host", "percent-encoded"),
        (f"nats://user:{QUOTED}@host?replicas=many", "replicas"),
        (f"nats://user:{QUOTED}@host?replicas=9", "replicas"),
        (f"nats://user:{QUOTED}@host?stream=a.b", "stream"),
        (f"nats://user:{QUOTED}@host?command_timeout=0", "command_timeout"),
        (f"nats://user:{QUOTED}@host?timeout=1", "no option 'timeout'"),
    ],
)
def test_a_url_is_refused(url: str, words: str) -> None:
    """NotConfigured says what is wrong, and tells no password."""
    with pytest.raises(NotConfigured) as refused:
        open_bus(url)
    assert words in str(refused.value)
    assert "s3cret" not in f"{refused.value!r} {refused.value.__cause__!r}"


def test_settings_hide_credentials() -> None:
    """The representation of settings has no credentials."""
    assert "s3cret" not in repr(settings_of(f"nats://user:{QUOTED}@host")) + repr(settings_of(f"nats://{QUOTED}@host"))


@pytest.mark.parametrize(
    ("demanded", "credentials", "wrong"),
    [
        (["--user", "user", "--pass", SECRET], f"user:{QUOTED}", ["", "user:s3cret-wrong", "s3cret-wrong"]),
        (["--auth", SECRET], QUOTED, ["", "user:s3cret-wrong", "s3cret-wrong"]),
    ],
)
async def test_credentials(
    demanded: list[str], credentials: str, wrong: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """With the right ones the bus works, with others it is away; neither errors nor logs tell them."""
    caplog.set_level(logging.DEBUG)
    with start_nats(extra_args=demanded) as server:
        for one in wrong:
            bus = open_bus(f"nats://{one}@127.0.0.1:{server.port}")
            with pytest.raises(BusUnavailable, match="Authorization Violation") as refused:
                await Producer().write(bus, "text")
            await bus.aclose()
            assert "s3cret" not in f"{refused.value!r} {refused.value.__cause__!r}"
        bus = open_bus(f"nats://{credentials}@127.0.0.1:{server.port}")
        await Producer().write(bus, "text")
        assert (await state(bus)).text == "text"
        await bus.aclose()
    assert "s3cret" not in caplog.text


async def test_tls(tmp_path: Path) -> None:
    """`nats+tls://` encrypts, for a server that somebody vouches for whom the URL names; others are not reached."""
    certificate, key = make_certificate(tmp_path)
    tls = ["--tls", "--tlscert", str(certificate), "--tlskey", str(key)]
    with start_nats(extra_args=tls) as server:
        url = f"nats+tls://127.0.0.1:{server.port}"
        bus = open_bus(f"{url}?tls_ca={certificate}")
        await Producer().write(bus, "text")
        assert (await state(bus)).text == "text"
        assert [one["tls_version"] for one in server.monitored("connz")["connections"]] == ["1.3"]
        await bus.aclose()
        for options, words in (("", "CERTIFICATE_VERIFY_FAILED"), (f"?tls_ca={tmp_path}/none.pem", "No such file")):
            stranger = open_bus(url + options)
            with pytest.raises(BusUnavailable, match=words):
                await state(stranger)
            await stranger.aclose()


async def test_tls_is_never_left_out() -> None:
    """Of a server that speaks no TLS, or of somebody between who says so, `nats+tls://` tells no credentials."""
    told: list[bytes] = []

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"plain","version":"2.15.0","max_payload":1048576,"headers":true}\r\n')
        told.append(await reader.read())
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        bus = open_bus(f"nats+tls://user:{QUOTED}@127.0.0.1:{port}")
        with pytest.raises(BusUnavailable, match="secure connection not available"):
            await state(bus)
        await bus.aclose()
        await eventually(lambda: told)
    assert set(told) == {b""}
