"""Asking, and asking again: what is repeated, what is not, and what is told."""

import asyncio
import socket
import struct
import traceback
from asyncio import create_task

import pytest

from brrr_aws.client import STREAMED
from brrr_aws.failures import AnswerLostError, AwsRefusal
from brrr_aws.metering import metering
from brrr_core.errors import BackendClosedError, BackendError, BackendUnavailableError

from .conftest import client_at

PARAMETERS = {"TableName": "jobs"}


def printed(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("code", ["ProvisionedThroughputExceededException", "ThrottlingException", "RequestThrottled"])
async def test_what_is_throttled_is_asked_again_whatever_it_is(service, client, code):
    service.refuse("PutItem", code, times=3)
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


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("AccessDeniedException", BackendError, "does not permit PutItem"),
        ("ExpiredTokenException", BackendUnavailableError, "have expired"),
        ("UnrecognizedClientException", BackendError, "does not know these credentials"),
        ("InvalidSignatureException", BackendError, "does not know these credentials"),
        ("RequestTimeTooSkewed", BackendUnavailableError, "clock"),
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


async def test_what_a_credential_process_prints_is_not_shown(service, tmp_path, monkeypatch):
    config = tmp_path / "config"
    config.write_text("[profile p]\ncredential_process = sh -c 'echo S3cret >&2; exit 1'\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    client = client_at(service.endpoint, profile="p")

    with pytest.raises(BackendUnavailableError, match="cannot be had") as caught:
        await client.open()
    assert "S3cret" not in printed(caught.value)


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


async def test_a_profile_that_is_not_there(service):
    with pytest.raises(BackendError, match="nobodys"):
        await client_at(service.endpoint, profile="nobodys").open()


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
