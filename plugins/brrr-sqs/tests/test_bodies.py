"""Encoding of bodies and reasons for SQS, which transmits only some texts unchanged."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brrr_sqs.bodies import (
    MAX_BODY,
    MAX_MESSAGE_BYTES,
    UNSAFE,
    decode_body,
    encode_body,
    message_size,
    number_attribute,
    number_of,
    text_attribute,
    text_of,
)
from brrr_sqs.messages import dead_letter_entry, message_entry, parse_message

PLAIN = [b"x", b"l1:ae", "snow ☃, 🦆".encode(), b"tab\tline\nend"]
UNUSUAL = [b"", b"\0", b"\r\n", b"\xff", b"\xed\xa0\x80", "\ufffe".encode(), b"=", bytes(range(256))]


@settings(deadline=None)
@given(st.one_of(st.binary(), st.text(st.characters(exclude_categories=["Cs"])).map(str.encode)))
def test_every_body_is_encoded_as_a_text_that_sqs_transmits_unchanged(body: bytes) -> None:
    encoded, attributes = encode_body(body)

    assert encoded
    assert not UNSAFE.search(encoded)
    assert decode_body(encoded, attributes) == body


@pytest.mark.parametrize("body", PLAIN)
def test_safe_text_is_sent_unencoded(body: bytes) -> None:
    assert encode_body(body) == (body.decode(), {})


@pytest.mark.parametrize("body", [each for each in UNUSUAL if each != b"="])
def test_other_bodies_are_sent_as_base64(body: bytes) -> None:
    assert "brrr.encoding" in encode_body(body)[1]


def test_largest_body_leaves_space_for_attributes_and_a_reason() -> None:
    encoded, attributes = encode_body(b"\xff" * MAX_BODY)
    assert message_size(encoded, attributes) < MAX_MESSAGE_BYTES - 15_000


@pytest.mark.parametrize("said", ["not base64 at all!", "abc"])
def test_text_falsely_marked_as_base64_is_its_own_body(said: Any) -> None:
    assert decode_body(said, {"brrr.encoding": {"DataType": "String", "StringValue": "base64"}}) == said.encode()


@settings(deadline=None)
@given(st.text())
def test_every_reason_is_kept(reason: Any) -> None:
    found = text_attribute(reason)
    kept = reason.encode(errors="backslashreplace").decode()
    assert (found is None) == (reason == "")
    assert text_of({} if found is None else {"x": found}, "x") == kept


@pytest.mark.parametrize("value", [0, 1, 1767225600.123456, 1e9])
def test_number_attribute_is_read_back(value: Any) -> None:
    assert number_of({"x": number_attribute(value)}, "x") == value


def test_malformed_number_is_read_as_0() -> None:
    assert number_of({"x": {"DataType": "String", "StringValue": "soon"}}, "x") == 0


@pytest.mark.parametrize("body", [b"x", b"\xff" * MAX_BODY])
async def test_reason_is_cut_to_fit_into_the_message(body: bytes) -> None:
    found = parse_message(
        "t",
        {"Body": encode_body(body)[0], "MessageAttributes": encode_body(body)[1], "ReceiptHandle": ""},
        begun=0,
        lease=1,
    )
    entry = dead_letter_entry(found.delivery, "é" * MAX_MESSAGE_BYTES)
    reason = text_of(entry["MessageAttributes"], "brrr.reason")

    assert message_size(entry["MessageBody"], entry["MessageAttributes"]) <= MAX_MESSAGE_BYTES
    assert reason.startswith("ééé")
    assert reason.endswith("more bytes, which did not fit into the message")


@pytest.mark.parametrize(("delay", "seconds"), [(0, 0), (0.01, 1), (1, 1), (899.5, 900), (900, 900), (10_000, 900)])
def test_delay_is_rounded_up_to_whole_seconds(delay: Any, seconds: Any) -> None:
    assert message_entry(b"x", delay=delay)["DelaySeconds"] == seconds


@pytest.mark.parametrize("body", UNUSUAL + PLAIN)
async def test_unusual_bodies_are_received_unchanged(queue: Any, topic: str, body: bytes) -> None:
    await queue.put(topic, [body])
    (found,) = await queue.receive(topic, limit=1, wait=5)
    assert found.body == body


async def test_body_of_another_programs_message_is_its_text(
    queue: Any, topic: str, sqs: Any, aws_prefix: str, drained: Any
) -> None:
    await queue.put(topic, [b"ours"])
    url = sqs.get_queue_url(QueueName=f"{aws_prefix}__{topic}")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="theirs ☃")

    assert await drained(queue, topic) == [b"ours", "theirs ☃".encode()]
