"""The emulators that tests share: the last process that uses one ends it, and a failed start leaves none behind."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from brrr_testkit.servers import aws as aws_servers
from brrr_testkit.servers import emulators
from brrr_testkit.servers.emulators import Emulator, alive, responds, shared
from brrr_testkit.waiting import wait_until


class Tiny(Emulator):
    name = "tiny"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(self.port)]


class Mute(Emulator):
    """Notes its process id, and never answers."""

    name = "mute"

    def command(self) -> list[str]:
        return [sys.executable, "-c", "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"]


def test_last_process_to_leave_ends_the_shared_server(tmp_path: Path) -> None:
    with shared(Tiny, tmp_path) as first:
        port = int(first.rpartition(":")[2])
        with shared(Tiny, tmp_path) as second:
            assert second == first
        assert responds(port)
    wait_until(lambda: not responds(port), "it ends", bound=30)


@pytest.mark.parametrize("start", ["start", "start_shared"])
def test_server_that_does_not_answer_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    monkeypatch.setattr(emulators, "START_TIMEOUT", 2.0)
    server = Mute(tmp_path)

    with pytest.raises(AssertionError, match="mute answers"):
        getattr(server, start)()

    note = tmp_path / "pid"
    assert not note.exists() or wait_until(lambda: not alive(int(note.read_text())), "it is gone", bound=30)


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with shared(emulators.Moto, tmp_path_factory.mktemp("moto")) as endpoint:
        yield endpoint


@pytest.fixture
def account(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stands for an account: what asks for its clients gets moto's, which have tables and queues of two prefixes."""
    with aws_servers.dummy_credentials():
        made = {service: aws_servers.client(service, moto) for service in ("dynamodb", "sqs")}
        monkeypatch.setattr(aws_servers, "client", lambda service, _: made[service])
        for name in ("brrr-test-0-a", "brrr-test-0-b", "brrr-test-1-a"):
            keys = [{"AttributeName": "pk", "KeyType": "HASH"}]
            types = [{"AttributeName": "pk", "AttributeType": "S"}]
            made["dynamodb"].create_table(
                TableName=name, KeySchema=keys, AttributeDefinitions=types, BillingMode="PAY_PER_REQUEST"
            )
            made["sqs"].create_queue(QueueName=name)
        yield
        monkeypatch.undo()
        monkeypatch.setattr(aws_servers, "client", lambda service, _: made[service])
        aws_servers._delete("brrr-test-")


def left() -> tuple[list[str], list[str]]:
    tables = aws_servers.client("dynamodb", None).list_tables()["TableNames"]
    queues = aws_servers.client("sqs", None).list_queues()["QueueUrls"]
    return sorted(tables), sorted(url.rpartition("/")[2] for url in queues)


@pytest.mark.usefixtures("account")
def test_tables_and_queues_of_a_run_are_deleted_and_no_others() -> None:
    aws_servers._delete("brrr-test-0-")

    assert left() == (["brrr-test-1-a"], ["brrr-test-1-a"])


@pytest.mark.usefixtures("account")
def test_failed_deletion_is_reported_and_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_servers, "DELETE_TIMEOUT", 0.1)
    dynamo = aws_servers.client("dynamodb", None)
    delete = dynamo.delete_table

    def refuse(TableName: str) -> None:  # noqa: N803 - the service's own word
        if TableName == "brrr-test-0-a":
            raise dynamo.exceptions.ResourceInUseException({"Error": {}}, "DeleteTable")
        delete(TableName=TableName)

    monkeypatch.setattr(dynamo, "delete_table", refuse)
    with pytest.raises(pytest.fail.Exception, match=r"costs money.*brrr-test-0-a"):
        aws_servers._delete("brrr-test-0-")

    assert left() == (["brrr-test-0-a", "brrr-test-1-a"], ["brrr-test-1-a"])
