"""Bodies and reasons on their way through SQS, which carries some texts alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brrr_sqs.bodies import (
    FOREIGN,
    MAX_BODY,
    MESSAGE_LIMIT,
    carried,
    number,
    read_body,
    read_number,
    read_text,
    size,
    text,
)
from brrr_sqs.messages import letter, message, received

PLAIN = [b"x", b"l1:ae", "snow ☃, 🦆".encode(), b"tab\tline\nend"]
STRANGE = [b"", b"\0", b"\r\n", b"\xff", b"\xed\xa0\x80", "\ufffe".encode(), b"=", bytes(range(256))]


@given(st.one_of(st.binary(), st.text(st.characters(exclude_categories=["Cs"])).map(str.encode)))
def test_any_body_survives_in_a_text_that_sqs_takes(body):
    as_text, attributes = carried(body)

    assert as_text
    assert not FOREIGN.search(as_text)
    assert read_body(as_text, attributes) == body


@pytest.mark.parametrize("body", PLAIN)
def test_what_is_such_a_text_is_sent_as_it_is(body):
    assert carried(body) == (body.decode(), {})


@pytest.mark.parametrize("body", [each for each in STRANGE if each != b"="])
def test_what_is_none_is_base64(body):
    assert "brrr.encoding" in carried(body)[1]


def test_the_largest_body_fits_with_attributes_and_room_for_a_reason():
    as_text, attributes = carried(b"\xff" * MAX_BODY)
    assert size(as_text, attributes) < MESSAGE_LIMIT - 15_000


@pytest.mark.parametrize("said", ["no base64 at all!", "abc"])
def test_a_body_that_says_wrongly_that_it_is_base64_is_its_text(said):
    assert read_body(said, {"brrr.encoding": {"DataType": "String", "StringValue": "base64"}}) == said.encode()


@given(st.text())
def test_any_reason_survives(reason):
    found = text(reason)
    kept = reason.encode(errors="backslashreplace").decode()
    assert (found is None) == (reason == "")
    assert read_text({} if found is None else {"x": found}, "x") == kept


@pytest.mark.parametrize("value", [0, 1, 1767225600.123456, 1e9])
def test_numbers_survive(value):
    assert read_number({"x": number(value)}, "x") == value


def test_a_number_that_is_none_counts_as_0():
    assert read_number({"x": {"DataType": "String", "StringValue": "soon"}}, "x") == 0


@pytest.mark.parametrize("body", [b"x", b"\xff" * MAX_BODY])
async def test_a_reason_is_cut_to_what_a_message_has_room_for(body):
    found = received(
        "t", {"Body": carried(body)[0], "MessageAttributes": carried(body)[1], "ReceiptHandle": ""}, begun=0, lease=1
    )
    entry = letter(found.delivery, "é" * MESSAGE_LIMIT)
    reason = read_text(entry["MessageAttributes"], "brrr.reason")

    assert size(entry["MessageBody"], entry["MessageAttributes"]) <= MESSAGE_LIMIT
    assert reason.startswith("ééé")
    assert reason.endswith("bytes more, which the message had no room for")


@pytest.mark.parametrize(("delay", "seconds"), [(0, 0), (0.01, 1), (1, 1), (899.5, 900), (900, 900), (10_000, 900)])
def test_a_delay_is_whole_seconds_and_never_shorter(delay, seconds):
    assert message(b"x", delay=delay)["DelaySeconds"] == seconds


@pytest.mark.parametrize("body", STRANGE + PLAIN)
async def test_hostile_bodies_come_as_they_were_put(queue, topic, body):
    await queue.put(topic, [body])
    (found,) = await queue.receive(topic, limit=1, wait=5)
    assert found.body == body


async def test_what_others_send_is_its_text(queue, topic, sqs, aws_prefix, drained):
    await queue.put(topic, [b"ours"])
    url = sqs.get_queue_url(QueueName=f"{aws_prefix}__{topic}")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="theirs ☃")

    assert await drained(queue, topic) == [b"ours", "theirs ☃".encode()]
