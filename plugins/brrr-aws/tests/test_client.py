"""Requests: which are retried, which are not, and which errors they raise."""

import asyncio
import socket
import struct
import traceback
from asyncio import create_task

import pytest
from botocore.loaders import JSONFileLoader

from brrr_aws.client import AwsClient
from brrr_aws.client_factory import STREAMED_BYTES, ClientFactory
from brrr_aws.errors import AnswerLostError, AwsRefusal
from brrr_aws.metering import metering
from brrr_core.errors import BackendClosedError, BackendError, BackendRefusedError, BackendUnavailableError

from .conftest import client_at

PARAMETERS = {"TableName": "jobs"}


def printed(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def assert_hidden(secret: str, error: BaseException) -> None:
    """Check that neither the traceback nor the errors of the chain hold the secret."""
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
        ("error code of a gateway", 429),
    ],
)
async def test_throttled_request_is_retried_even_if_not_idempotent(service, client, code, status):
    service.refuse("PutItem", code, status=status, times=3)
    service.answer("PutItem", {})

    assert await client.call("PutItem", PARAMETERS, idempotent=False)
    assert service.asked("PutItem") == 4


async def test_request_with_unknown_outcome_is_not_retried(service, client):
    service.refuse("PutItem", "InternalServerError", status=500)

    with pytest.raises(AnswerLostError, match="InternalServerError") as caught:
        await client.call("PutItem", PARAMETERS, idempotent=False)
    assert service.asked("PutItem") == 1
    assert caught.value.remedy


@pytest.mark.parametrize("harm", ["cut", "stall"])
async def test_broken_connection_raises_answer_lost(service, harm):
    getattr(service, harm)("PutItem")
    client = client_at(service.endpoint, timeout=0.5)
    await client.open()
    try:
        with pytest.raises(AnswerLostError, match="was lost"):
            await client.call("PutItem", PARAMETERS, idempotent=False)
    finally:
        await client.close()
    assert service.asked("PutItem") == 1


async def test_connection_reset_after_the_request_raises_answer_lost():
    received = []

    async def serve(reader, writer):
        received.append(await reader.readuntil(b"\r\n\r\n"))
        at_once = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        client = client_at(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await client.open()
        with pytest.raises(AnswerLostError):
            await client.call("PutItem", PARAMETERS, idempotent=False)
        await client.close()
    assert len(received) == 1


async def test_idempotent_request_is_retried_after_a_lost_response(service, client):
    service.cut("GetItem", times=2)
    service.refuse("GetItem", "InternalServerError", status=500)
    service.answer("GetItem", {"Item": {"pk": {"S": "x"}}})

    answer = await client.call("GetItem", PARAMETERS, idempotent=True)
    assert answer["Item"] == {"pk": {"S": "x"}}
    assert service.asked("GetItem") == 4


async def test_retries_end_after_retry_for(service):
    service.refuse("GetItem", "ThrottlingException", times=10_000)
    client = client_at(service.endpoint, retry_for=0.3)
    await client.open()
    try:
        with pytest.raises(BackendUnavailableError, match="throttles GetItem of the table jobs") as caught:
            await client.call("GetItem", PARAMETERS, idempotent=True)
    finally:
        await client.close()
    assert "limits of the table jobs" in caught.value.remedy
    assert "retry_for" in caught.value.remedy
    assert 2 <= service.asked("GetItem") < 1000


async def test_refused_connection_is_unavailable_and_not_a_lost_answer(service):
    client = client_at("http://127.0.0.1:1", retry_for=0.1)
    await client.open()
    try:
        with pytest.raises(BackendUnavailableError, match=r"http://127\.0\.0\.1:1 cannot be reached") as caught:
            await client.call("PutItem", PARAMETERS, idempotent=False)
    finally:
        await client.close()
    assert not isinstance(caught.value, AnswerLostError)


async def test_expected_code_raises_aws_refusal(service, client):
    service.refuse("PutItem", "ConditionalCheckFailedException")

    with pytest.raises(AwsRefusal) as caught:
        await client.call("PutItem", PARAMETERS, idempotent=False, expect=("ConditionalCheckFailedException",))
    assert caught.value.code == "ConditionalCheckFailedException"


@pytest.mark.parametrize("broken", ["create", "_call_once"])
async def test_error_of_brrr_is_raised_unchanged_and_is_not_its_own_cause(client, monkeypatch, broken):
    ours = BackendError("refused", remedy="Ask.")

    async def refuse(*_: object) -> None:
        raise ours

    monkeypatch.setattr(ClientFactory if broken == "create" else AwsClient, broken, refuse)
    with pytest.raises(BackendError) as caught:
        await (client.open() if broken == "create" else client.call("PutItem", PARAMETERS, idempotent=False))
    assert caught.value is ours
    assert ours.__cause__ is None


async def test_incomplete_error_names_subject_time_and_reason(client):
    error = client.incomplete_error("PutItem", "3 items are left")
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
        ("ResourceNotFoundException", BackendError, "the table jobs does not exist"),
        ("ValidationException", BackendError, "refuses PutItem"),
    ],
)
async def test_refusal_is_not_retried_and_has_a_remedy(service, client, code, kind, said):
    service.refuse("PutItem", code)

    with pytest.raises(kind, match=said) as caught:
        await client.call("PutItem", PARAMETERS, idempotent=True)
    assert type(caught.value) is kind
    assert caught.value.remedy
    assert caught.value.__cause__ is not None
    assert service.asked("PutItem") == 1


async def test_request_headers_that_a_server_repeats_are_redacted(service, client):
    message = "for AKIAIOSFODNN7EXAMPLE: The Canonical String for this request should have been 'POST x-token:S3cret'"
    service.refuse("PutItem", "InvalidSignatureException", message=message)
    service.refuse("PutItem", "ValidationException", message=message)

    for _ in range(2):
        with pytest.raises(BackendError) as caught:
            await client.call("PutItem", PARAMETERS, idempotent=True)
        assert "S3cret" not in printed(caught.value)
        assert "AKIAIOSFODNN7EXAMPLE" not in printed(caught.value)


async def test_remedy_for_a_signature_of_another_region_names_the_region(service, client):
    message = "Credential should be scoped to a valid region, not 'us-east-1'."
    service.refuse("PutItem", "InvalidSignatureException", message=message)

    with pytest.raises(BackendError, match="does not know these credentials") as caught:
        await client.call("PutItem", PARAMETERS, idempotent=True)
    assert "region" in caught.value.remedy


@pytest.mark.parametrize(
    "says", ["Signature expired: 20260101T000000Z is now earlier than …", "Signature not yet current"]
)
async def test_expired_signature_is_reported_as_a_wrong_clock(service, client, says):
    service.refuse("PutItem", "InvalidSignatureException", message=says)

    with pytest.raises(BackendUnavailableError, match="clock") as caught:
        await client.call("PutItem", PARAMETERS, idempotent=True)
    assert "NTP" in caught.value.remedy


@pytest.mark.parametrize("endpoint", ["http://bob:S3cret@127.0.0.1:1", "http://127.0.0.1:1/?token=S3cret"])
async def test_login_in_the_environments_endpoint_is_redacted(monkeypatch, endpoint):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    client = client_at(None, retry_for=0.1)
    await client.open()
    try:
        with pytest.raises(BackendUnavailableError, match=r"http://127\.0\.0\.1:1 ") as caught:
            await client.call("PutItem", PARAMETERS, idempotent=True)
    finally:
        await client.close()
    assert "S3cret" not in client.address
    assert_hidden("S3cret", caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_login_of_a_proxy_is_redacted(monkeypatch, scheme):
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
            await client.call("PutItem", PARAMETERS, idempotent=True)
        await client.close()
    assert_hidden("S3cret", caught.value)


async def test_unreachable_proxy_is_retried(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://bob:S3cret@127.0.0.1:1")
    with metering() as meter:
        client = client_at("https://nowhere.invalid", retry_for=0.2)
        await client.open()
    with pytest.raises(BackendUnavailableError, match="cannot be reached") as caught:
        await client.call("PutItem", PARAMETERS, idempotent=False)
    await client.close()
    assert not isinstance(caught.value, AnswerLostError)
    assert meter.requests["dynamodb.PutItem"] > 1
    assert_hidden("S3cret", caught.value)


async def test_session_token_is_removed_from_errors(service, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "S3cret")
    client = client_at(service.endpoint)
    await client.open()
    service.cut("PutItem")
    try:
        with pytest.raises(AnswerLostError) as caught:
            await client.call("PutItem", PARAMETERS, idempotent=False)
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
async def test_output_of_a_credential_process_is_redacted(service, tmp_path, monkeypatch, prints):
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


async def test_missing_credentials_raise_an_error_that_names_the_profile_option(service, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    client = client_at(service.endpoint)
    await client.open()
    try:
        with pytest.raises(BackendError, match="no credentials") as caught:
            await client.call("PutItem", PARAMETERS, idempotent=True)
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
async def test_region_of_the_url_takes_precedence_over_the_environments(service, monkeypatch, url, variables, region):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    client = client_at(service.endpoint, region=url)
    await client.open()
    assert client.region == region
    await client.close()


async def test_missing_region_raises_an_error_that_names_the_variable(service, monkeypatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    with pytest.raises(BackendError, match="region of dynamodb is not set") as caught:
        await client_at(service.endpoint, region=None).open()
    assert "AWS_REGION" in caught.value.remedy


async def test_unknown_profile_is_an_error(service):
    with pytest.raises(BackendError, match="unknown-profile"):
        await client_at(service.endpoint, profile="unknown-profile").open()


async def test_service_models_are_read_once_per_process(service, monkeypatch):
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


async def test_closing_ends_a_request_and_refuses_further_ones(service, client):
    service.stall("GetItem")
    waiting = create_task(client.call("GetItem", PARAMETERS, idempotent=True))
    await service.wait_for_request()
    await client.close()
    await client.close()

    with pytest.raises(BackendClosedError):
        await waiting
    with pytest.raises(BackendClosedError):
        await client.call("GetItem", PARAMETERS, idempotent=True)
    with pytest.raises(BackendClosedError):
        client.check_open()


async def turns():
    """Let the loop turn often enough for messages between sockets of this machine to arrive."""
    for _ in range(200):
        await asyncio.sleep(0)


async def test_closing_ends_a_wait_for_the_rest_of_a_response(service, client):
    service.stall("GetItem", half=True)
    waiting = create_task(client.call("GetItem", PARAMETERS, idempotent=True))
    await service.wait_for_request()
    await turns()
    await client.close()

    async with asyncio.timeout(2):  # `timeout` is 5 s
        with pytest.raises(BackendClosedError):
            await waiting


async def test_closing_ends_a_wait_for_a_free_connection(service):
    service.stall("GetItem")
    client = client_at(service.endpoint, pool=1)
    await client.open()
    waiting = [create_task(client.call("GetItem", PARAMETERS, idempotent=True)) for _ in range(3)]
    await service.wait_for_request()
    await client.close()

    for task in waiting:
        with pytest.raises(BackendClosedError):
            await task
    assert service.asked("GetItem") == 1


async def test_closing_ends_a_pause_before_a_retry(service, monkeypatch):
    class Long:
        def uniform(self, _least, _most):
            return 3600.0

    monkeypatch.setattr("brrr_aws.client.RANDOM", Long())
    service.refuse("GetItem", "ThrottlingException")
    client = client_at(service.endpoint, retry_for=3600.0)
    await client.open()
    waiting = create_task(client.call("GetItem", PARAMETERS, idempotent=True))
    await service.wait_for_request()
    await turns()
    await client.close()

    async with asyncio.timeout(10):
        with pytest.raises(BackendClosedError):
            await waiting


async def test_closed_client_can_be_opened_again(service, client):
    service.answer("GetItem", {}, times=2)
    assert await client.call("GetItem", PARAMETERS, idempotent=True)
    await client.close()
    await client.open()
    assert await client.call("GetItem", PARAMETERS, idempotent=True)


async def test_large_body_is_sent_whole(service, client):
    service.answer("PutItem", {})
    value = bytes(STREAMED_BYTES)

    await client.call("PutItem", {**PARAMETERS, "Item": {"v": {"B": value}}}, idempotent=False)
    (request,) = service.requests
    assert len(request.parameters["Item"]["v"]["B"]) > STREAMED_BYTES


async def test_meter_counts_requests_and_units(service):
    service.refuse("GetItem", "ThrottlingException")
    service.answer("GetItem", {"ConsumedCapacity": {"TableName": "jobs", "CapacityUnits": 1.5}})
    service.answer("PutItem", {"ConsumedCapacity": {"TableName": "jobs", "CapacityUnits": 3}})
    with metering() as meter:
        client = client_at(service.endpoint)
        await client.open()
    await client.call("GetItem", PARAMETERS, idempotent=True)
    await client.call("PutItem", PARAMETERS, idempotent=True)
    await client.close()

    assert meter.requests == {"dynamodb.GetItem": 2, "dynamodb.PutItem": 1}
    assert (meter.read_units, meter.write_units) == (1.5, 3)


async def test_client_works_after_a_cancelled_request(service, client):
    service.stall("GetItem")
    waiting = create_task(client.call("GetItem", PARAMETERS, idempotent=True))
    await service.wait_for_request()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    service.answer("GetItem", {})
    await client.call("GetItem", PARAMETERS, idempotent=True)


async def test_response_of_another_kind_of_server_is_an_error():
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
            await client.call("GetItem", PARAMETERS, idempotent=True)
        await client.close()
