"""Certificates for a test: an authority, what it has signed for this machine, and what nobody should trust."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import missing


@dataclass(frozen=True)
class Certificates:
    """Files in one folder.

    Attributes:
        ca: The authority.
        cert: Its certificate for 127.0.0.1, that serves servers and clients.
        key: The key of `cert`.
        named: One of it for localhost by name alone, with the same key.
        expired: A certificate of it that has ended, with the same key.
        stranger: Another authority.
    """

    ca: Path
    cert: Path
    key: Path
    named: Path
    expired: Path
    stranger: Path


def certificates(folder: Path) -> Certificates:
    """Make them."""
    if shutil.which("openssl") is None:
        missing("no openssl on PATH, which makes the certificates")

    def run(words: str) -> None:
        subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)

    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    for name in ("ca", "stranger"):
        signs = "-addext keyUsage=critical,keyCertSign"
        run(f"req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name} {signs}")
    run("req -newkey rsa:2048 -nodes -keyout me.key -out me.csr -subj /CN=127.0.0.1")
    signed = "x509 -req -in me.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names"
    run(f"{signed} -out me.pem -days 2")
    run(f"{signed} -out expired.pem -days -1")
    (folder / "names").write_text("subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n")
    run(f"{signed} -out named.pem -days 2")
    files = ("ca.pem", "me.pem", "me.key", "named.pem", "expired.pem", "stranger.pem")
    return Certificates(*(folder / name for name in files))
