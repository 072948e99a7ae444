"""Emulated AWS for tests: DynamoDB Local, and moto for SQS (and for DynamoDB if DynamoDB Local is not available).

One server of each kind serves a whole run with all xdist workers; tests use names of their own. These variables
replace the servers:

- `BRRR_TEST_DYNAMO_ENDPOINT`, `BRRR_TEST_SQS_ENDPOINT`: endpoints of running emulators.
- `BRRR_TEST_AWS=1`: an AWS account, with the credentials and region of the environment. Tables and queues get a prefix
  of their own and are always deleted after the run. CONTRIBUTING.md lists the costs.

With emulators, the environment holds dummy credentials while tests run, and the user's AWS files are not read.
"""

import fcntl
import http.client
import json
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import pytest

from tests.support import dynamodb_local
from tests.support.processes import ServerProcess, free_port, missing, until

GIVEN_DYNAMO: Final = "BRRR_TEST_DYNAMO_ENDPOINT"
GIVEN_SQS: Final = "BRRR_TEST_SQS_ENDPOINT"
REAL: Final = os.environ.get("BRRR_TEST_AWS") == "1"
"""Whether the tests run on an AWS account."""

DUMMY: Final = {
    "AWS_ACCESS_KEY_ID": "AKIDTEST",
    "AWS_SECRET_ACCESS_KEY": "test-secret-access-key",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
NEVER: Final = (
    *("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN"),
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SQS"),
)
"""Variables that must not be set while emulators are used."""

DELETING: Final = 300.0
"""Seconds to wait until a table can be deleted."""

STARTING: Final = 120.0
"""Seconds to wait until a server responds. It takes one or two, and many times that on a busy machine."""


class Emulator(ServerProcess, ABC):
    """Server process on a port of this machine, with a folder for its log."""

    name: str

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command that starts the server."""

    @property
    def endpoint(self) -> str:
        """URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """Path of the server's log."""
        return self.folder / "log"

    def start(self) -> "Emulator":
        """Start the server as a child of this process, and wait until it responds."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), cwd=self.folder, stdout=log, stderr=log)
        try:
            self.ready()
        except BaseException:
            self.kill()
            raise
        return self

    def start_shared(self) -> int:
        """Start the server detached, so that it may outlive this process, and return its process id."""
        script = '"$@" >>log 2>&1 </dev/null & echo $!'
        done = subprocess.run(
            ["sh", "-c", script, "sh", *self.command()], cwd=self.folder, check=True, stdout=subprocess.PIPE
        )
        pid = int(done.stdout)
        try:
            self.ready(pid)
        except BaseException:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            raise
        return pid

    def ready(self, pid: int | None = None) -> None:
        """Wait until the server responds.

        Raises:
            AssertionError: The server ended or does not respond. The error contains its log.
        """

        def answers() -> bool:
            ended = not alive(pid) if pid else self.process is not None and self.process.poll() is not None
            assert not ended, f"{self.name} ended by itself"
            return answering(self.port)

        try:
            until(answers, f"{self.name} answers on port {self.port}", bound=STARTING)
        except AssertionError as error:
            error.add_note(self.log.read_text(errors="replace")[-2000:])
            raise


class Moto(Emulator):
    """moto's server: SQS, DynamoDB and more, in memory."""

    name = "moto"

    def command(self) -> list[str]:
        program = Path(__file__).with_name("moto_server.py")
        return [sys.executable, str(program), "-H", "127.0.0.1", "-p", str(self.port)]


class DynamoLocal(Emulator):
    """DynamoDB Local, in memory."""

    name = "DynamoDB Local"

    def command(self) -> list[str]:
        return dynamodb_local.command(self.port)


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def answering(port: int) -> bool:
    """Whether an HTTP server responds on a port of this machine, with any status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


@contextmanager
def shared(kind: type[Emulator], run: Path) -> Iterator[str]:
    """Share one server between all processes with the same folder `run`. The last one to leave ends it."""
    folder = run / kind.__name__.lower()
    folder.mkdir(parents=True, exist_ok=True)
    with _state(folder) as state:
        if not state or not answering(state["port"]):
            server = kind(folder)
            state.update(port=server.port, pid=server.start_shared(), users=0)
        state["users"] += 1
        port = state["port"]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        with _state(folder) as state:
            state["users"] -= 1
            if not state["users"]:
                with suppress(ProcessLookupError):
                    os.kill(state["pid"], signal.SIGKILL)  # it has no data to save
                state.clear()


@contextmanager
def _state(folder: Path) -> Iterator[dict[str, int]]:
    """Lock and yield the state of a shared server. Changes are saved for the next process."""
    with (folder / "state").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        state = json.loads(file.read() or "{}")
        yield state
        file.truncate(0)
        file.write(json.dumps(state))


def dynamo_url(table: str, endpoint: str | None, **options: str) -> str:
    """Return the URL of a table behind an http endpoint, or on AWS."""
    return _url("dynamo", table, endpoint, options)


def sqs_url(prefix: str, endpoint: str | None, **options: str) -> str:
    """Return the URL of a queue behind an http endpoint, or on AWS."""
    return _url("sqs", prefix, endpoint, options)


def _url(scheme: str, name: str, endpoint: str | None, options: dict[str, str]) -> str:
    query = "&".join(f"{option}={value}" for option, value in options.items())
    place = name if endpoint is None else f"{endpoint.removeprefix('http://')}/{name}"
    return f"{scheme}://{place}" + (f"?{query}" if query else "")


def client(service: str, endpoint: str | None) -> Any:
    """Return a boto3 client, for a test that bypasses the plugins."""
    import boto3

    region = os.environ.get("AWS_REGION") if REAL else DUMMY["AWS_REGION"]  # boto3 does not read it
    return boto3.client(service, endpoint_url=endpoint, region_name=region or None)


@contextmanager
def dummies() -> Iterator[None]:
    """Set dummy credentials, also for child processes, instead of the user's AWS files and variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in DUMMY.items():
            patch.setenv(name, value)
        for name in NEVER:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def aws_environment() -> Iterator[None]:
    """Dummy credentials for emulators; the user's own for an account."""
    with nullcontext() if REAL else dummies():
        yield


@pytest.fixture(scope="session")
def aws_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of this run, shared by all xdist workers."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "aws"


@pytest.fixture(scope="session")
def moto_endpoint(aws_environment: None, aws_run: Path) -> Iterator[str]:
    """Endpoint of moto's server."""
    with shared(Moto, aws_run) as endpoint:
        yield endpoint


def has_dynamo_local() -> bool:
    """Whether DynamoDB Local is available. If not, fail on CI, and print elsewhere that moto replaces it."""
    try:
        dynamodb_local.command(0)
    except dynamodb_local.UnavailableError as error:
        if os.environ.get("CI") == "true":
            missing(f"no DynamoDB Local: {error}")
        print(f"DynamoDB Local is not available ({error}): moto replaces it", file=sys.__stderr__)
        return False
    return True


@pytest.fixture(scope="session")
def dynamo_endpoint(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Endpoint of DynamoDB: the environment's, DynamoDB Local's or moto's; None for an account."""
    request.getfixturevalue("aws_environment")
    given = os.environ.get(GIVEN_DYNAMO)
    if REAL or given:
        yield given
        return
    if not has_dynamo_local():
        yield request.getfixturevalue("moto_endpoint")
        return
    with shared(DynamoLocal, request.getfixturevalue("aws_run")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def sqs_endpoint(request: pytest.FixtureRequest) -> str | None:
    """Endpoint of SQS: the environment's or moto's; None for an account."""
    request.getfixturevalue("aws_environment")
    given = os.environ.get(GIVEN_SQS)
    return given if REAL or given else request.getfixturevalue("moto_endpoint")


@pytest.fixture(scope="session")
def aws_prefix(request: pytest.FixtureRequest) -> Iterator[str]:
    """Prefix of this process' tables and queues. On an account, all of them are deleted after the run."""
    prefix = f"brrr-test-{token_hex(4)}-"
    yield prefix
    if REAL:
        _delete(prefix)


def _delete(prefix: str) -> None:
    """Delete the run's tables and queues, and fail with a list of those that cannot be deleted."""
    left: list[str] = []
    for deleting in (_delete_tables, _delete_queues):
        try:
            deleting(prefix, left)
        except Exception as error:  # noqa: BLE001 - still delete those of the other service
            left.append(f"{deleting.__name__}: {error}")
    if left:
        pytest.fail(f"not all of {prefix}* was deleted, which costs money: {left}")


def _delete_tables(prefix: str, left: list[str]) -> None:
    dynamo = client("dynamodb", None)
    for page in dynamo.get_paginator("list_tables").paginate():
        for table in filter(lambda name: name.startswith(prefix), page["TableNames"]):
            try:
                # A table cannot be deleted while it is being created or its expiry is being enabled.
                until(lambda table=table: _gone(dynamo, table), f"{table} is deleted", bound=DELETING)
            except AssertionError as error:
                left.append(str(error))


def _gone(dynamo: Any, table: str) -> bool:
    """Delete a table, and return whether it is being deleted or is gone."""
    try:
        dynamo.delete_table(TableName=table)
    except dynamo.exceptions.ResourceNotFoundException:
        return True
    except (dynamo.exceptions.ResourceInUseException, dynamo.exceptions.LimitExceededException):
        try:
            return bool(dynamo.describe_table(TableName=table)["Table"]["TableStatus"] == "DELETING")
        except dynamo.exceptions.ResourceNotFoundException:
            return True
    return True


def _delete_queues(prefix: str, left: list[str]) -> None:
    sqs = client("sqs", None)
    for page in sqs.get_paginator("list_queues").paginate(QueueNamePrefix=prefix):
        for url in page.get("QueueUrls", []):
            try:
                sqs.delete_queue(QueueUrl=url)
            except Exception as error:  # noqa: BLE001 - still delete the others
                left.append(f"{url}: {error}")
