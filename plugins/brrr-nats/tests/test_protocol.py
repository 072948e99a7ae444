"""The parser gives the same messages for any split of the input."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brrr_nats.client.protocol import FrameParser, Message


def whole(*parts):
    frames = FrameParser()
    return [frame for part in parts for frame in frames.feed(part)]


def message(subject, number, payload, *, reply_to=b"", lines=b""):
    command = b" ".join([b"HMSG" if lines else b"MSG", subject, b"%d" % number, *([reply_to] if reply_to else [])])
    sizes = b" %d %d" % (len(lines), len(lines) + len(payload)) if lines else b" %d" % len(payload)
    return command + sizes + b"\r\n" + lines + payload + b"\r\n"


LINES = b"NATS/1.0 404 No Messages\r\n\r\n"
SENT = [
    (b'INFO {"a":1}\r\n', b'INFO {"a":1}\r\n'),
    (message(b"in.1", 1, b"MSG \r\nPING\r\n"), Message(b"in.1", 1, b"", b"", b"MSG \r\nPING\r\n")),
    (b"PING\r\n", b"PING\r\n"),
    (message(b"a.b", 12, b"", reply_to=b"$JS.ACK"), Message(b"a.b", 12, b"$JS.ACK", b"", b"")),
    (message(b"in.2", 1, b"", lines=LINES), Message(b"in.2", 1, b"", LINES, b"")),
    (message(b"in.2", 1, b"\0\r\n", reply_to=b"r", lines=LINES), Message(b"in.2", 1, b"r", LINES, b"\0\r\n")),
    (message(b"in.3", 1, bytes(70_000)), Message(b"in.3", 1, b"", b"", bytes(70_000))),
    (b"-ERR 'x'\r\n", b"-ERR 'x'\r\n"),
]


def test_messages_and_lines_are_parsed_in_order():
    assert whole(b"".join(sent for sent, _ in SENT)) == [frame for _, frame in SENT]


def test_input_byte_by_byte_is_parsed_alike():
    few = [each for each in SENT if len(each[0]) < 1000]
    sent = b"".join(sent for sent, _ in few)

    assert whole(*(sent[at : at + 1] for at in range(len(sent)))) == [frame for _, frame in few]


@given(st.lists(st.sampled_from(SENT), max_size=6), st.lists(st.integers(1, 100_000), max_size=8))
def test_input_in_any_pieces_is_parsed_alike(each, cuts):
    sent = b"".join(sent for sent, _ in each)
    places = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})

    assert whole(*(sent[begin:end] for begin, end in pairwise(places))) == [frame for _, frame in each]


@pytest.mark.parametrize("sent", [b"MSG a b c\r\n", b"x" * 300_000])
def test_invalid_protocol_is_refused(sent):
    with pytest.raises(ValueError):
        whole(sent)


class Piece(bytes):
    """Bytes that count how much is copied when they are appended to others."""

    copied = 0

    def __radd__(self, others):
        Piece.copied += len(others)
        return bytes(others) + bytes(self)


def test_message_in_many_pieces_is_copied_once():
    sent = message(b"in.1", 1, bytes(1_000_000))

    (found,) = whole(*(Piece(sent[at : at + 1000]) for at in range(0, len(sent), 1000)))

    assert len(found.payload) == 1_000_000
    assert Piece.copied < 2_000_000
