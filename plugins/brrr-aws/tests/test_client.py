"""Asking, and asking again: what is repeated, what is not, and what is told."""

import asyncio
import socket
import struct
import traceback
from asyncio import create_task

import pytest
from botocore.loaders import JSONFileLoader

from brrr_aws import backoff
from brrr_aws.failures import AnswerLostError, AwsRefusal
from brrr_aws.making import STREAMED
from brrr_aws.metering import metering
from brrr_core.errors import BackendClosedError, BackendError, BackendRefusedError, BackendUnavailableError

from .conftest import client_at

PARAMETERS = {"TableName": "jobs"}


def printed(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def assert_hidden(secret: str, error: BaseException) -> None:
    """It is neither in a traceback nor in what the errors of the chain keep."""
    assert secret not in printed(error)
    found: BaseException | None = error
    while found is not None:
        assert secret not in repr(found) + repr(vars(found)), found
        request = getattr(found, "request", None)
        assert secret not in repr(getattr(request, "headers", ""))
        found = found.__cause__ or found.__context__


@pytest.mark.parametrize(
    ("code", "status"),
    [
        *(("ProvisionedThroughputExceededException", 400), ("ThrottlingException", 400), ("RequestThrottled", 400)),
        *(
            ("ThrottlingException", 500),
            ("TransactionConflictException", 400),
            ("ReplicatedWriteConflictException", 400),
        ),
        ("what a gateway says", 429),
    ],
)
async def test_what_is_throttled_is_asked_again_whatever_it_is(service, client, code, status):
    service.refuse("PutItem", code, status=status, times=3)
    service.answer("PutItem", {})

    assert await client.call("PutItem", PARAMETERS, repeat=False)
    assert service.asked("PutItem") == 4


async def test_what_may_have_been_done_is_not_asked_again(service, client):
    service.refuse("PutItem", "InternalServerError", status=500)

    with pytest.raises(AnswerLostError, match="InternalServerError") as caught:
        await client.call("PutItem", PARAMETERS, repeat=False)
    assert service.asked("PutItem") == 1
    assert caught.value.remedy


@pytest.mark.parametrize("harm", ["cut", "stall"])
async def test_a_connection_that_breaks_leaves_it_open_whether_it_was_done(service, harm):
    getattr(service, harm)("PutItem")
    client = client_at(service.endpoint, timeout=0.5)
    await client.open()
    try:
        with pytest.raises(AnswerLostError, match="was lost"):
            await client.call("PutItem", PARAMETERS, repeat=False)
    finally:
        await client.close()
    assert service.asked("PutItem") == 1


async def test_a_connection_that_is_reset_in_the_middle_leaves_it_open_too():
    asked = []

    async def serve(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        at_once = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        client = client_at(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await client.open()
        with pytest.raises(AnswerLostError):
            await client.call("PutItem", PARAMETERS, repeat=False)
        await client.close()
    assert len(asked) == 1


async def test_what_may_be_done_twice_is_asked_again(service, client):
    service.cut("GetItem", times=2)
    service.refuse("GetItem", "InternalServerError", status=500)
    service.answer("GetItem", {"Item": {"pk": {"S": "x"}}})

    answer = await client.call("GetItem", PARAMETERS, repeat=True)
    assert answer["Item"] == {"pk": {"S": "x"}}
    assert service.asked("GetItem") == 4


async def test_it_is_given_up_in_time(service):
    service.refuse("GetItem", "ThrottlingException", times=10_000)
    client = client_at(service.endpoint, retry_for=0.3)
    await client.open()
    try:
        with pytest.raises(BackendUnavailableError, match="throttles GetItem of the table jobs") as caught:
            await client.call("GetItem", PARAMETERS, repeat=True)
    finally:
        await client.close()
    assert "limits of the table jobs" in caught.value.remedy
    assert "retry_for" in caught.value.remedy
    assert 2 <= service.asked("GetItem") < 1000


async def test_a_connection_that_is_refused_was_never_used(service):
    client = client_at("http://127.0.0.1:1", retry_for=0.1)
    await client.open()
    try:
        with pytest.raises(BackendUnavailableError, match=r"http://127\.0\.0\.1:1 cannot be reached") as caught:
            await client.call("PutItem", PARAMETERS, repeat=False)
    finally:
        await client.close()
    assert not isinstance(caught.value, AnswerLostError)


async def test_a_refusal_that_the_caller_expects(service, client):
    service.refuse("PutItem", "ConditionalCheckFailedException")

    with pytest.raises(AwsRefusal) as caught:
        await client.call("PutItem", PARAMETERS, repeat=False, told=("ConditionalCheckFailedException",))
    assert caught.value.code == "ConditionalCheckFailedException"


async def test_what_did_not_get_done_in_time_is_told_of_what_it_is_about(client):
    error = client.late("PutItem", "3 items are left")
    assert "PutItem of the table jobs" in str(error)
    assert "within 20 s (3 items are left)" in str(error)
    assert "limits of the table jobs" in error.remedy


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("AccessDeniedException", BackendError, "does not permit PutItem"),
        ("ExpiredTokenException", BackendRefusedError, "have expired"),
        ("UnrecognizedClientException", BackendError, "does not know these credentials"),
        ("InvalidSignatureException", BackendError, "does not know these credentials"),
        ("RequestTimeTooSkewed", BackendRefusedError, "clock"),
        ("RequestExpired", BackendRefusedError, "clock"),
        ("ResourceNotFoundException", BackendError, "there is no table jobs"),
        ("ValidationException", BackendError, "refuses PutItem"),
    ],
)
async def test_refusals_are_told_with_a_remedy_once(service, client, code, kind, said):
    service.refuse("PutItem", code)

    with pytest.raises(kind, match=said) as caught:
        await client.call("PutItem", PARAMETERS, repeat=True)
    assert type(caught.value) is kind
    assert caught.value.remedy
    assert caught.value.__cause__ is not None
    assert service.asked("PutItem") == 1


async def test_what_a_server_repeats_of_the_request_is_not_shown(service, client):
    message = "for AKIAIOSFODNN7EXAMPLE: The Canonical String for this request should have been 'POST x-token:S3cret'"
    service.refuse("PutItem", "InvalidSignatureException", message=message)
    service.refuse("PutItem", "ValidationException", message=message)

    for _ in range(2):
        with pytest.raises(BackendError) as caught:
            await client.call("PutItem", PARAMETERS, repeat=True)
        assert "S3cret" not in printed(caught.value)
        assert "AKIAIOSFODNN7EXAMPLE" not in printed(caught.value)


async def test_what_a_signature_for_another_region_is_told_with(service, client):
    message = "Credential should be scoped to a valid region, not 'us-east-1'."
    service.refuse("PutItem", "InvalidSignatureException", message=message)

    with pytest.raises(BackendError, match="does not know these credentials") as caught:
        await client.call("PutItem", PARAMETERS, repeat=True)
    assert "region" in caught.value.remedy


@pytest.mark.parametrize(
    "says", ["Signature expired: 20260101T000000Z is now earlier than …", "Signature not yet current"]
)
async def test_a_signature_of_another_time_is_the_clocks_fault(service, client, says):
    service.refuse("PutItem", "InvalidSignatureException", message=says)

    with pytest.raises(BackendUnavailableError, match="clock") as caught:
        await client.call("PutItem", PARAMETERS, repeat=True)
    assert "NTP" in caught.value.remedy


@pytest.mark.parametrize("endpoint", ["http://bob:S3cret@127.0.0.1:1", "http://127.0.0.1:1/?token=S3cret"])
async def test_a_login_in_an_endpoint_of_the_environment_is_not_shown(monkeypatch, endpoint):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    client = client_at(None, retry_for=0.1)
    await client.open()
    try:
        with pytest.raises(BackendUnavailableError, match=r"http://127\.0\.0\.1:1 ") as caught:
            await client.call("PutItem", PARAMETERS, repeat=True)
    finally:
        await client.close()
    assert "S3cret" not in client.where
    assert_hidden("S3cret", caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_login_of_a_proxy_is_not_shown(monkeypatch, scheme):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        for name in (f"{scheme.upper()}_PROXY", f"{scheme}_proxy"):
            monkeypatch.setenv(name, f"http://bob:S3cret@127.0.0.1:{port}")
        client = client_at(f"{scheme}://nowhere.invalid")
        await client.open()
        with pytest.raises(BackendError) as caught:
            await client.call("PutItem", PARAMETERS, repeat=True)
        await client.close()
    assert_hidden("S3cret", caught.value)


async def test_a_proxy_that_cannot_be_reached_is_tried_again(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://bob:S3cret@127.0.0.1:1")
    with metering() as meter:
        client = client_at("https://nowhere.invalid", retry_for=0.2)
        await client.open()
    with pytest.raises(BackendUnavailableError, match="cannot be reached") as caught:
        await client.call("PutItem", PARAMETERS, repeat=False)
    await client.close()
    assert not isinstance(caught.value, AnswerLostError)
    assert meter.requests["dynamodb.PutItem"] > 1
    assert_hidden("S3cret", caught.value)


async def test_a_sessions_token_is_not_kept_in_errors(service, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "S3cret")
    client = client_at(service.endpoint)
    await client.open()
    service.cut("PutItem")
    try:
        with pytest.raises(AnswerLostError) as caught:
            await client.call("PutItem", PARAMETERS, repeat=False)
    finally:
        await client.close()
    assert_hidden("S3cret", caught.value)


@pytest.mark.parametrize(
    "prints",
    [
        "sh -c 'echo S3cret >&2; exit 1'",
        "echo S3cret",
        "echo [1]",
        """echo '{"Version": 1, "AccessKeyId": "S3cret"}'""",
        """echo '{"Version": "S3cret"}'""",
    ],
)
async def test_what_a_credential_process_prints_is_not_shown(service, tmp_path, monkeypatch, prints):
    config = tmp_path / "config"
    config.write_text(f"[profile p]\ncredential_process = {prints}\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    client = client_at(service.endpoint, profile="p")

    with pytest.raises(BackendError) as caught:
        await client.open()
    assert "credential process" in caught.value.remedy
    assert_hidden("S3cret", caught.value)


async def test_without_credentials(service, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    client = client_at(service.endpoint)
    await client.open()
    try:
        with pytest.raises(BackendError, match="no credentials") as caught:
            await client.call("PutItem", PARAMETERS, repeat=True)
    finally:
        await client.close()
    assert "profile" in caught.value.remedy


@pytest.mark.parametrize(
    ("url", "variables", "region"),
    [
        ("eu-west-1", {"AWS_REGION": "eu-west-2", "AWS_DEFAULT_REGION": "eu-west-3"}, "eu-west-1"),
        (None, {"AWS_REGION": "eu-west-2", "AWS_DEFAULT_REGION": "eu-west-3"}, "eu-west-2"),
        (None, {"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-3"}, "eu-west-3"),
    ],
)
async def test_the_region_is_the_urls_or_the_environments(service, monkeypatch, url, variables, region):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    client = client_at(service.endpoint, region=url)
    await client.open()
    assert client.region == region
    await client.close()


async def test_without_a_region(service, monkeypatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    with pytest.raises(BackendError, match="no region") as caught:
        await client_at(service.endpoint, region=None).open()
    assert "AWS_REGION" in caught.value.remedy


async def test_a_profile_that_is_not_there(service):
    with pytest.raises(BackendError, match="nobodys"):
        await client_at(service.endpoint, profile="nobodys").open()


async def test_the_descriptions_of_services_are_read_once_in_a_process(service, monkeypatch):
    read: list[object] = []
    whole = JSONFileLoader.load_file
    monkeypatch.setattr(JSONFileLoader, "load_file", lambda self, path: read.append(path) or whole(self, path))
    first, second = client_at(service.endpoint), client_at(service.endpoint)

    await first.open()
    read.clear()
    await second.open()

    assert read == []
    await first.close()
    await second.close()


async def test_a_client_that_is_closed_says_so(service, client):
    service.stall("GetItem")
    waiting = create_task(client.call("GetItem", PARAMETERS, repeat=True))
    await service.until_asked()
    await client.close()
    await client.close()

    with pytest.raises(BackendClosedError):
        await waiting
    with pytest.raises(BackendClosedError):
        await client.call("GetItem", PARAMETERS, repeat=True)
    with pytest.raises(BackendClosedError):
        client.check_open()


async def turns():
    """As many turns of the loop as what is on its way on this machine takes."""
    for _ in range(200):
        await asyncio.sleep(0)


async def test_closing_ends_who_waits_for_the_rest_of_an_answer(service, client):
    service.stall("GetItem", half=True)
    waiting = create_task(client.call("GetItem", PARAMETERS, repeat=True))
    await service.until_asked()
    await turns()
    await client.close()

    async with asyncio.timeout(2):  # an answer may take five
        with pytest.raises(BackendClosedError):
            await waiting


async def test_closing_ends_who_waits_for_a_connection(service):
    service.stall("GetItem")
    client = client_at(service.endpoint, pool=1)
    await client.open()
    waiting = [create_task(client.call("GetItem", PARAMETERS, repeat=True)) for _ in range(3)]
    await service.until_asked()
    await client.close()

    for task in waiting:
        with pytest.raises(BackendClosedError):
            await task
    assert service.asked("GetItem") == 1


async def test_closing_ends_who_waits_to_ask_again(service, monkeypatch):
    class Long:
        def uniform(self, _least, _most):
            return 3600.0

    monkeypatch.setattr(backoff, "RANDOM", Long())
    service.refuse("GetItem", "ThrottlingException")
    client = client_at(service.endpoint, retry_for=3600.0)
    await client.open()
    waiting = create_task(client.call("GetItem", PARAMETERS, repeat=True))
    await service.until_asked()
    await turns()
    await client.close()

    async with asyncio.timeout(10):
        with pytest.raises(BackendClosedError):
            await waiting


async def test_a_client_that_was_closed_can_be_opened_again(service, client):
    service.answer("GetItem", {}, times=2)
    assert await client.call("GetItem", PARAMETERS, repeat=True)
    await client.close()
    await client.open()
    assert await client.call("GetItem", PARAMETERS, repeat=True)


async def test_a_large_body_goes_out_whole(service, client):
    service.answer("PutItem", {})
    value = bytes(STREAMED)

    await client.call("PutItem", {**PARAMETERS, "Item": {"v": {"B": value}}}, repeat=False)
    (request,) = service.requests
    assert len(request.parameters["Item"]["v"]["B"]) > STREAMED


async def test_requests_and_units_are_counted_where_somebody_counts(service):
    service.refuse("GetItem", "ThrottlingException")
    service.answer("GetItem", {"ConsumedCapacity": {"TableName": "jobs", "CapacityUnits": 1.5}})
    service.answer("PutItem", {"ConsumedCapacity": {"TableName": "jobs", "CapacityUnits": 3}})
    with metering() as meter:
        client = client_at(service.endpoint)
        await client.open()
    await client.call("GetItem", PARAMETERS, repeat=True)
    await client.call("PutItem", PARAMETERS, repeat=True)
    await client.close()

    assert meter.requests == {"dynamodb.GetItem": 2, "dynamodb.PutItem": 1}
    assert (meter.read_units, meter.write_units) == (1.5, 3)


async def test_a_cancelled_request_leaves_the_client_working(service, client):
    service.stall("GetItem")
    waiting = create_task(client.call("GetItem", PARAMETERS, repeat=True))
    await service.until_asked()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    service.answer("GetItem", {})
    await client.call("GetItem", PARAMETERS, repeat=True)


async def test_what_is_no_service_of_aws_is_told():
    async def serve(reader, writer):
        await reader.read(10)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
        )
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        client = client_at(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", retry_for=0.1)
        await client.open()
        with pytest.raises(BackendUnavailableError, match="text/html"):
            await client.call("GetItem", PARAMETERS, repeat=True)
        await client.close()
