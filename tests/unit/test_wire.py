"""The wire format: golden bytes, round trips, and every kind of malformed record."""

import json
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brrr_core import bencoded as bencoded_values
from brrr_core import wire
from brrr_core.errors import Cause, MalformedRecordError
from brrr_core.wire import (
    FAILURE_PREFIX,
    Call,
    Failure,
    PendingReturn,
    PendingReturns,
    ScheduleMessage,
    count_key,
    decode_call,
    decode_failure,
    decode_message,
    decode_pending,
    encode_call,
    encode_failure,
    encode_message,
    encode_pending,
)

GOLDEN = json.loads((Path(__file__).parents[2] / "docs/reference/protocol/golden.json").read_text())
DECODERS: list[Callable[[bytes], object]] = [decode_message, lambda record: decode_call("h", record), decode_pending]
DECODERS.append(lambda record: decode_failure(FAILURE_PREFIX + record))
RECORDS = {
    "message": (DECODERS[0], b"l" + b"i2e" + b"4:root" + b"4:hash" + b"e"),
    "call": (DECODERS[1], b"d7:payload4:[11]9:task_name3:fibe"),
    "failure": (DECODERS[3], b"d7:message2:no9:traceback0:4:type10:ValueErrore"),
    "pending": (DECODERS[2], b"d7:returnsl" + b"li1e4:root4:hash5:topice" + b"e12:scheduled_ati17ee"),
}

tokens = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1)
texts = st.text(st.characters(exclude_categories=["Cs"]))
returns = st.builds(PendingReturn, tokens, tokens, texts)
bencoded = st.recursive(
    st.integers() | st.binary(max_size=8) | st.sampled_from([1, 2, b"returns", b"payload", b"task_name", b"root"]),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.binary(max_size=4) | st.sampled_from([b"returns", b"scheduled_at", b"payload", b"task_name"]), inner
        )
    ),
)


def refuse(decoder: Callable[[bytes], object], record: bytes) -> str:
    with pytest.raises(MalformedRecordError) as caught:
        decoder(record)
    assert len(str(caught.value)) < 700
    return str(caught.value)


def read_or_refuse(decoder: Callable[[bytes], object], record: bytes) -> None:
    with suppress(MalformedRecordError):
        decoder(record)


@pytest.mark.parametrize("case", GOLDEN["schedule_message"])
def test_golden_message_is_encoded_and_decoded(case: dict[str, str]) -> None:
    message = ScheduleMessage(case["root_id"], case["call_hash"])
    assert encode_message(message).hex() == case["hex"]
    assert decode_message(bytes.fromhex(case["hex"])) == message


@pytest.mark.parametrize("case", GOLDEN["pending_returns"])
def test_golden_pending_record_is_encoded_and_decoded(case: dict[str, Any]) -> None:
    unsorted = tuple(PendingReturn(*entry) for entry in case["returns"])
    assert encode_pending(PendingReturns(unsorted, case["scheduled_at"])).hex() == case["hex"]
    assert decode_pending(bytes.fromhex(case["hex"])) == PendingReturns(tuple(sorted(unsorted)), case["scheduled_at"])


@pytest.mark.parametrize("case", GOLDEN["call_record"])
def test_golden_call_record_is_encoded_and_decoded(case: dict[str, str]) -> None:
    call = Call(case["task_name"], bytes.fromhex(case["payload_hex"]), "h")
    assert encode_call(call).hex() == case["record_hex"]
    assert decode_call("h", bytes.fromhex(case["record_hex"])) == call


@pytest.mark.parametrize("case", GOLDEN["call_json"])
def test_golden_typescript_call_is_encoded_and_decoded(case: dict[str, Any]) -> None:
    call = Call(case["task_name"], case["payload"].encode(), case["call_hash"])
    assert encode_call(call).hex() == case["record_hex"]
    assert decode_call(case["call_hash"], bytes.fromhex(case["record_hex"])) == call


def test_counter_key_of_root_is_golden() -> None:
    assert f"INCR {count_key('<root_id>')}" == GOLDEN["redis"]["counter"]


@settings(deadline=None)
@given(tokens, tokens)
def test_any_message_survives_round_trip(root_id: str, call_hash: str) -> None:
    message = ScheduleMessage(root_id, call_hash)
    assert decode_message(encode_message(message)) == message


@settings(deadline=None)
@given(texts, st.binary())
def test_any_call_survives_round_trip(task_name: str, payload: bytes) -> None:
    call = Call(task_name, payload, "h")
    assert decode_call("h", encode_call(call)) == call


@settings(deadline=None)
@given(st.lists(returns, max_size=6), st.none() | st.integers(-(2**63), 2**63 - 1))
def test_any_pending_record_survives_round_trip_sorted_and_unique(entries: list[PendingReturn], at: int | None) -> None:
    back = decode_pending(encode_pending(PendingReturns((*entries, *entries), at)))
    assert back == PendingReturns(tuple(sorted(set(entries))), at)


def test_unsorted_returns_are_sorted_and_deduplicated() -> None:
    one, two = b"li1e1:a1:b1:ce", b"li1e1:b1:b1:ce"
    record = b"d7:returnsl" + two + one + two + b"ee"
    assert decode_pending(record).returns == (PendingReturn("a", "b", "c"), PendingReturn("b", "b", "c"))


@pytest.mark.parametrize("token", ["", "é", "a\n", "\x7f", "a\x00", "\ud800", "\uff46", "\u00a0"])
def test_encoders_refuse_token_that_is_not_printable_ascii(token: str) -> None:
    for write in (
        lambda: encode_message(ScheduleMessage(token, "h")),
        lambda: encode_message(ScheduleMessage("r", token)),
        lambda: encode_pending(PendingReturns((PendingReturn(token, "h", "t"),))),
        lambda: encode_pending(PendingReturns((PendingReturn("r", token, "t"),))),
    ):
        with pytest.raises(MalformedRecordError, match="not printable US-ASCII"):
            write()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("raw", [b"", "é".encode(), b"\xff", b"a\n", b"\x7f", b"\x00"])
def test_decoders_refuse_token_that_is_not_printable_ascii(raw: bytes) -> None:
    bad = b"%d:%s" % (len(raw), raw)
    refuse(decode_message, b"li2e" + bad + b"1:he")
    refuse(decode_message, b"li2e1:r" + bad + b"e")
    refuse(decode_pending, b"d7:returnslli1e" + bad + b"1:h1:teee")
    refuse(decode_pending, b"d7:returnslli1e1:r" + bad + b"1:teee")


def test_encoders_refuse_text_with_lone_surrogate() -> None:
    with pytest.raises(MalformedRecordError, match="surrogate"):
        encode_call(Call("\ud800", b"", "h"))
    with pytest.raises(MalformedRecordError, match="surrogate"):
        encode_pending(PendingReturns((PendingReturn("r", "h", "\udfff"),)))


def test_decoders_refuse_text_that_is_not_utf8() -> None:
    assert "not UTF-8" in refuse(DECODERS[1], b"d7:payload0:9:task_name1:\xffe")
    assert "not UTF-8" in refuse(decode_pending, b"d7:returnslli1e1:r1:h1:\xffeee")


@pytest.mark.parametrize("at", [True, False, 1.5, "1", 2**63, -(2**63) - 1, pytest.param(10**5000, id="5001 digits")])
def test_encoder_refuses_scheduled_at_that_could_not_be_decoded(at: Any) -> None:
    with pytest.raises(MalformedRecordError):
        encode_pending(PendingReturns((), at))


@pytest.mark.parametrize("at", [-(2**63), -1, 0, 2**63 - 1])
def test_integer_of_64_bits_is_valid_scheduled_at(at: int) -> None:
    assert decode_pending(encode_pending(PendingReturns((), at))).scheduled_at == at


@pytest.mark.parametrize(
    ("record", "shape"),
    [
        (b"li1e1:r1:he", "a list of 3 fields with the tag 1"),
        (b"li2e1:re", "a list of 2 fields with the tag 2"),
        (b"li2e1:r1:h1:te", "a list of 4 fields with the tag 2"),
        (b"li2e1:ri3ee", "a list of 3 fields with the tag 2"),
        (b"le", "an empty list"),
        (b"d1:ai1ee", "a dict of 1 fields: b'a'"),
        (b"i2e", "a single int"),
        (b"6:secret", "a single bytes"),
    ],
)
def test_error_for_malformed_message_shows_tag_and_field_count_only(record: bytes, shape: str) -> None:
    shown = refuse(decode_message, record)
    assert shape in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    "entry", [b"li2e1:r1:h1:te", b"li1e1:r1:he", b"li1e1:r1:h1:t1:xe", b"li1e1:r1:hi1ee", b"i1e", b"le", b"1:x"]
)
def test_malformed_return_is_refused(entry: bytes) -> None:
    assert "[1, root id, call hash, topic]" in refuse(decode_pending, b"d7:returnsl" + entry + b"ee")


@pytest.mark.parametrize(
    "record",
    [
        b"de",
        b"d12:scheduled_ati1ee",
        b"d7:returnsi1ee",
        b"d7:returnsle12:scheduled_at1:1e",
        b"d7:returnsle12:scheduled_ati1e1:xi1ee",
        b"d7:returnsle12:scheduled_ati9223372036854775808ee",
        b"d7:returnsle12:scheduled_ati-9223372036854775809ee",
        b"d7:returnsle1:xi1ee",
        b"le",
    ],
)
def test_malformed_pending_record_is_refused(record: bytes) -> None:
    refuse(decode_pending, record)


@pytest.mark.parametrize(
    "record",
    [
        b"de",
        b"d7:payload0:e",
        b"d9:task_name0:e",
        b"d7:payloadi1e9:task_name0:e",
        b"d7:payload0:9:task_namei1ee",
        b"d7:payload0:9:task_name0:1:zi1ee",
        b"le",
    ],
)
def test_malformed_call_record_is_refused(record: bytes) -> None:
    refuse(DECODERS[1], record)


@pytest.mark.parametrize("name", RECORDS)
def test_truncated_record_and_trailing_byte_are_refused(name: str) -> None:
    decoder, record = RECORDS[name]
    decoder(record)
    for end in range(len(record)):
        refuse(decoder, record[:end])
    for byte in range(256):
        refuse(decoder, record + bytes([byte]))


@pytest.mark.parametrize("name", RECORDS)
def test_record_with_changed_byte_is_decoded_or_refused(name: str) -> None:
    decoder, record = RECORDS[name]
    for index in range(len(record)):
        for byte in range(256):
            read_or_refuse(decoder, record[:index] + bytes([byte]) + record[index + 1 :])


@pytest.mark.parametrize("decoder", DECODERS)
@settings(deadline=None)
@given(data=st.binary())
def test_any_bytes_are_decoded_or_refused(decoder: Callable[[bytes], object], data: bytes) -> None:
    read_or_refuse(decoder, data)


@pytest.mark.parametrize("decoder", DECODERS)
@given(data=bencoded.map(wire.bencode))  # type: ignore[attr-defined]
@settings(max_examples=200, deadline=None)
def test_any_bencode_is_decoded_or_refused(decoder: Callable[[bytes], object], data: bytes) -> None:
    read_or_refuse(decoder, data)


HOSTILE = {
    "nested 100,000 lists deep": b"l" * 100_000 + b"e" * 100_000,
    "nested to the decoder's depth limit": b"l" * 4_000 + b"e" * 4_000,
    "a deep tag": b"l" + b"l" * 3_000 + b"e" * 3_000 + b"1:r1:he",
    "a deep value under a known key": b"d7:returns" + b"l" * 3_000 + b"e" * 3_000 + b"e",
    "an integer of 5,000 digits": b"li2e1:ri" + b"9" * 5_000 + b"ee",
    "an integer of 4,000 digits as the tag": b"li" + b"9" * 4_000 + b"e1:r1:he",
    "a length beyond the input": b"li2e999999999:re",
    "a length beyond 64 bit": b"li2e" + b"9" * 30 + b":re",
    "a dict of 100,000 keys with empty values": b"d" + b"".join(b"7:%07d0:" % i for i in range(100_000)) + b"e",
    "a megabyte under a wrong tag": b"li3e1000000:" + b"r" * 1_000_000 + b"1:he",
    "a token of a megabyte that is not ASCII": b"li2e1000000:" + b"\xff" * 1_000_000 + b"1:he",
    "unsorted keys": b"d9:task_name0:7:payload0:e",
    "a repeated key": b"d7:payload0:7:payload0:9:task_name0:e",
    "a leading zero": b"li02e1:r1:he",
    "a negative zero": b"li-0e1:r1:he",
    "a plus sign": b"li+2e1:r1:he",
    "nothing": b"",
}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_is_refused_with_short_error(decoder: Callable[[bytes], object], name: str) -> None:
    refuse(decoder, HOSTILE[name])


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", [name for name in HOSTILE if "100,000 lists" not in name])
def test_pure_python_decoder_refuses_hostile_input_too(
    decoder: Callable[[bytes], object], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bencoded_values, "bdecode", import_module("bencode2.__decoder").bdecode)
    refuse(decoder, HOSTILE[name])


@pytest.mark.parametrize("decoder", [*DECODERS[:3], decode_failure])
@pytest.mark.parametrize("kind", [bytearray, memoryview, bytes.decode])
def test_only_bytes_are_decoded(decoder: Callable[[Any], object], kind: Callable[[bytes], object]) -> None:
    assert "not bytes" in refuse(decoder, kind(b"li2e1:r1:he"))  # type: ignore[arg-type]


def test_error_keeps_its_cause_and_is_not_retried() -> None:
    with pytest.raises(MalformedRecordError) as caught:
        decode_message(b"x")
    assert isinstance(caught.value.__cause__, ValueError)
    assert not caught.value.retry


@pytest.mark.parametrize("golden", GOLDEN["failure"], ids=lambda golden: golden["type"])
def test_failure_has_its_golden_bytes(golden: dict[str, Any]) -> None:
    failure = Failure(
        golden["type"],
        golden["message"],
        golden["traceback"],
        None if golden["details"] is None else golden["details"].encode(),
        exhausted=golden["exhausted"],
        causes=tuple(Cause(*cause) for cause in golden["causes"]),
    )
    record = bytes.fromhex(golden["hex"])

    assert encode_failure(failure) == record
    assert decode_failure(record) == failure


def test_failure_with_unknown_fields_is_read() -> None:
    record = FAILURE_PREFIX + b"d6:futurei1e7:message2:no9:traceback0:4:type10:ValueErrore"

    assert decode_failure(record) == Failure("ValueError", "no")


@pytest.mark.parametrize(
    "record",
    [
        b"de",
        b"d7:messagei1e9:traceback0:4:type1:Ee",
        b"d7:details3:yes9:exhausted1:17:message0:9:traceback0:4:type1:Ee",
        b"d6:causesl3:oddee7:message0:9:traceback0:4:type1:Ee",
        b"d6:causesli1ee7:message0:9:traceback0:4:type1:Ee",
        b"d7:message1:\xff9:traceback0:4:type1:Ee",
    ],
)
def test_malformed_failure_is_refused(record: bytes) -> None:
    assert "BRRR-WIRE-01" in refuse(DECODERS[3], record)


@settings(deadline=None)
@given(st.binary(max_size=64), st.sampled_from(["utf-8", "json", "msgpack"]))
def test_no_valid_text_or_msgpack_begins_with_the_prefix(rest: bytes, form: str) -> None:
    import msgspec

    decode = {"utf-8": bytes.decode, "json": msgspec.json.decode, "msgpack": msgspec.msgpack.decode}[form]
    with pytest.raises((UnicodeDecodeError, msgspec.DecodeError)):
        decode(FAILURE_PREFIX + rest)  # type: ignore[operator]
