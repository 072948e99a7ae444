"""Emulated AWS for tests: DynamoDB Local, and moto for SQS (and for DynamoDB where DynamoDB Local is not to be had).

One server of each serves a whole run, all xdist workers together; tests keep apart by names of their own. What
replaces them:

- `BRRR_TEST_DYNAMO_ENDPOINT`, `BRRR_TEST_SQS_ENDPOINT`: the endpoints of emulators that run already.
- `BRRR_TEST_AWS=1`: an AWS account, with the ordinary credentials and region of the environment. Tables and queues get
  a prefix of the run's own and are deleted after it, whatever failed. CONTRIBUTING.md says what that costs.

With emulators the environment holds dummy credentials while tests run, and no file of the user is read.
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
"""What must not be set while emulators are used."""

DELETING: Final = 300.0
"""Seconds within which a table must be such that it can be deleted."""

STARTING: Final = 120.0
"""Seconds within which a server answers. It takes one or two, and many times that where the machine is busy."""


class Emulator(ServerProcess, ABC):
    """One server process on a port of this machine, with a folder for its log."""

    name: str

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it."""

    @property
    def endpoint(self) -> str:
        """Where a client finds it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder / "log"

    def start(self) -> "Emulator":
        """Start it as a child of this process, and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), cwd=self.folder, stdout=log, stderr=log)
        try:
            self.ready()
        except BaseException:
            self.kill()
            raise
        return self

    def start_shared(self) -> int:
        """Start it as nobody's child, so that it may outlive this process; its id."""
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
        """Wait until it answers.

        Raises:
            AssertionError: It ended, or does not answer; with what it said.
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
    """Whether an HTTP server answers on a port of this machine, whatever it says."""
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
    """The endpoint of one server for all processes that use the folder `run`: the last that leaves ends it."""
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
                    os.kill(state["pid"], signal.SIGKILL)  # it keeps nothing that a graceful end would save
                state.clear()


@contextmanager
def _state(folder: Path) -> Iterator[dict[str, int]]:
    """What is known of a shared server; changes are kept for the next process."""
    with (folder / "state").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        state = json.loads(file.read() or "{}")
        yield state
        file.truncate(0)
        file.write(json.dumps(state))


def dynamo_url(table: str, endpoint: str | None, **options: str) -> str:
    """The URL of a table: behind an endpoint of http, or on AWS."""
    return _url("dynamo", table, endpoint, options)


def sqs_url(prefix: str, endpoint: str | None, **options: str) -> str:
    """The URL of a queue: behind an endpoint of http, or on AWS."""
    return _url("sqs", prefix, endpoint, options)


def _url(scheme: str, name: str, endpoint: str | None, options: dict[str, str]) -> str:
    query = "&".join(f"{option}={value}" for option, value in options.items())
    place = name if endpoint is None else f"{endpoint.removeprefix('http://')}/{name}"
    return f"{scheme}://{place}" + (f"?{query}" if query else "")


def client(service: str, endpoint: str | None) -> Any:
    """A boto3 client for what a test does behind the plugins' backs."""
    import boto3

    region = os.environ.get("AWS_REGION") if REAL else DUMMY["AWS_REGION"]  # boto3 does not look at it
    return boto3.client(service, endpoint_url=endpoint, region_name=region or None)


@contextmanager
def dummies() -> Iterator[None]:
    """Credentials that open nothing, which other processes inherit: no file and no variable of the user counts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in DUMMY.items():
            patch.setenv(name, value)
        for name in NEVER:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def aws_environment() -> Iterator[None]:
    """Such credentials for emulators; the user's own for an account."""
    with nullcontext() if REAL else dummies():
        yield


@pytest.fixture(scope="session")
def aws_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of this run, the same for all xdist workers."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "aws"


@pytest.fixture(scope="session")
def moto_endpoint(aws_environment: None, aws_run: Path) -> Iterator[str]:
    """moto's server."""
    with shared(Moto, aws_run) as endpoint:
        yield endpoint


def has_dynamo_local() -> bool:
    """Whether DynamoDB Local can be had. On CI it must; elsewhere moto stands in for it, and that is said."""
    try:
        dynamodb_local.command(0)
    except dynamodb_local.UnavailableError as error:
        if os.environ.get("CI") == "true":
            missing(f"no DynamoDB Local: {error}")
        print(f"DynamoDB Local is not to be had ({error}): moto stands in for it", file=sys.__stderr__)
        return False
    return True


@pytest.fixture(scope="session")
def dynamo_endpoint(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """DynamoDB: DynamoDB Local, what the environment names, moto where there is neither; None is an account."""
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
    """SQS: moto, or what the environment names; None is an account."""
    request.getfixturevalue("aws_environment")
    given = os.environ.get(GIVEN_SQS)
    return given if REAL or given else request.getfixturevalue("moto_endpoint")


@pytest.fixture(scope="session")
def aws_prefix(request: pytest.FixtureRequest) -> Iterator[str]:
    """What the names of this process' tables and queues begin with. On an account all of them are deleted after it."""
    prefix = f"brrr-test-{token_hex(4)}-"
    yield prefix
    if REAL:
        _delete(prefix)


def _delete(prefix: str) -> None:
    """Delete the run's tables and queues, all that can be, and say what cannot."""
    left: list[str] = []
    for deleting in (_delete_tables, _delete_queues):
        try:
            deleting(prefix, left)
        except Exception as error:  # noqa: BLE001 - whichever it is, the other service's are deleted
            left.append(f"{deleting.__name__}: {error}")
    if left:
        pytest.fail(f"not all of {prefix}* was deleted, which costs money: {left}")


def _delete_tables(prefix: str, left: list[str]) -> None:
    dynamo = client("dynamodb", None)
    for page in dynamo.get_paginator("list_tables").paginate():
        for table in filter(lambda name: name.startswith(prefix), page["TableNames"]):
            try:
                # One that is still being made, or given its expiry, refuses to be deleted.
                until(lambda table=table: _gone(dynamo, table), f"{table} is deleted", bound=DELETING)
            except AssertionError as error:
                left.append(str(error))


def _gone(dynamo: Any, table: str) -> bool:
    """Whether a table is being deleted by now, or is not there."""
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
            except Exception as error:  # noqa: BLE001 - whichever it is, the others are deleted
                left.append(f"{url}: {error}")
