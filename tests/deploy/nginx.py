"""A real nginx with the shipped configuration, on free loopback ports, started and ended by process id."""

import datetime
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.servers import free_port
from tests.waiting import wait_until

SHIPPED = Path(__file__).parents[2] / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
_UPSTREAM = "server 127.0.0.1:8000 max_fails=0;"
_PLACES = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx:
    """A running nginx."""

    def __init__(self, folder: Path, port: int, plain_port: int, certificate: Path) -> None:
        self.folder, self.port, self.plain_port, self.certificate = folder, port, plain_port, certificate

    @property
    def url(self) -> str:
        """Of the server that browsers use, without a slash at the end."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def access_log(self) -> str:
        return (self.folder / "access.log").read_text()

    def trusting(self) -> ssl.SSLContext:
        """A context that trusts this server's certificate."""
        return ssl.create_default_context(cafile=self.certificate)


@contextmanager
def running_nginx(folder: Path, upstreams: Sequence[int], changes: Mapping[str, str] | None = None) -> Iterator[Nginx]:
    """The shipped file with other ports and paths, servers at the ports `upstreams`, and `changes` of its text."""
    folder.mkdir(mode=0o755)
    certificate, key = make_certificate(folder)
    nginx = Nginx(folder, free_port(), free_port(), certificate)
    temporary = "".join(f"{place}_temp_path {folder}/{place};\n" for place in _PLACES)
    own = {
        "pid /run/nginx.pid;": f"pid {folder}/nginx.pid;",
        "/var/log/nginx/error.log": str(folder / "error.log"),
        "/var/log/nginx/stagecast.log": str(folder / "access.log"),
        "worker_processes auto;": "worker_processes 2;",
        "worker_rlimit_nofile 40000;": "",
        "worker_connections 16384;": "worker_connections 512;",
        "http {": f"http {{\n{temporary}",
        _UPSTREAM: "\n".join(_UPSTREAM.replace("8000", str(port)) for port in upstreams),
        "listen 80;": f"listen 127.0.0.1:{nginx.plain_port};",
        "listen [::]:80;": "",
        "listen 443 ssl http2;": f"listen 127.0.0.1:{nginx.port} ssl http2;",
        "listen [::]:443 ssl http2;": "",
        "/etc/stagecast/tls/fullchain.pem": str(certificate),
        "/etc/stagecast/tls/privkey.pem": str(key),
    }
    file = folder / "nginx.conf"
    file.write_text(changed(changed(SHIPPED.read_text(), own), changes or {}))
    log = folder / "error.log"
    command = [NGINX, "-e", str(log), "-p", str(folder), "-c", str(file), "-g", "daemon off;"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: process.poll() is not None or _listens(nginx.port), 10)
        assert process.poll() is None, log.read_text()
        yield nginx
    finally:
        process.terminate()
        process.wait(10)


def changed(text: str, changes: Mapping[str, str]) -> str:
    """`text` with each key of `changes`, which must stand there once, replaced by its value."""
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the shipped file"
        text = text.replace(old, new)
    return text


def directives(name: str) -> list[str]:
    """The values of a directive in the shipped file."""
    return re.findall(rf"^\s*{re.escape(name)}\s+([^;#]*);", SHIPPED.read_text(), re.MULTILINE)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stagecast.example")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "fullchain.pem", folder / "privkey.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    os.chmod(files[1], 0o600)
    return files


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
