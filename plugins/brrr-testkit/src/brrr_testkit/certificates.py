"""Certificates for tests: an authority, certificates that it has signed, and certificates that must be refused."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from brrr_testkit.processes import missing

AUTHORITY: Final = """
[ca]
default_ca = here
[here]
database = issued
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = names
[names]
commonName = supplied
"""
"""Configuration of `openssl ca`, which makes the expired certificate: newer versions of `x509` refuse negative days."""


@dataclass(frozen=True)
class Certificates:
    """Certificate files in one folder.

    Attributes:
        ca: The authority.
        cert: Signed by `ca` for 127.0.0.1; servers and clients use it.
        key: The key of `cert`, `named` and `expired`.
        named: Signed by `ca` for the name localhost only.
        expired: Signed by `ca`, but expired.
        stranger: Another authority, which signed none of them.
    """

    ca: Path
    cert: Path
    key: Path
    named: Path
    expired: Path
    stranger: Path


def certificates(folder: Path) -> Certificates:
    """Make the certificates in a folder."""
    if shutil.which("openssl") is None:
        missing("openssl, which makes the certificates, is not on PATH")

    def run(words: str) -> None:
        subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)

    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    for name in ("ca", "stranger"):
        signs = "-addext keyUsage=critical,keyCertSign"
        run(f"req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name} {signs}")
    run("req -newkey rsa:2048 -nodes -keyout me.key -out me.csr -subj /CN=127.0.0.1")
    signed = "x509 -req -in me.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names"
    run(f"{signed} -out me.pem -days 2")
    (folder / "authority").write_text(AUTHORITY)
    (folder / "issued").touch()
    signed_then = "ca -batch -notext -config authority -cert ca.pem -keyfile ca.key -in me.csr -extfile names"
    run(f"{signed_then} -out expired.pem -startdate 20200101000000Z -enddate 20200102000000Z")
    (folder / "names").write_text("subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n")
    run(f"{signed} -out named.pem -days 2")
    files = ("ca.pem", "me.pem", "me.key", "named.pem", "expired.pem", "stranger.pem")
    return Certificates(*(folder / name for name in files))
