"""Requests, replies and their bytes on the wire.

nats-py's own parser tries six patterns on the head of each line and awaits between messages. Most of the traffic is
messages, and `FrameParser` finds them by their lengths.
"""

from binascii import a2b_base64
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

__all__ = ["FrameParser", "Message", "Reply", "Request", "stored_message"]

VERSION: Final = b"NATS/1.0"
NO_HEADERS: Final[Mapping[str, str]] = {}


LINE_END: Final = b"\r\n"
MAX_LINE_BYTES: Final = 256 * 1024
"""Longest line that is accepted. The longest valid line is the server's INFO."""


class Request(NamedTuple):
    """A message that asks for a reply.

    Attributes:
        subject: The subject; its tokens hold no white space.
        payload: Any bytes.
        headers: Names and values. A value is one line of text.
    """

    subject: str
    payload: bytes = b""
    headers: Mapping[str, str] | None = None

    @property
    def size(self) -> int:
        """Bytes that count towards a server's `max_payload`: headers and payload."""
        return len(self.payload) + (len(_encode_headers(self.headers)) if self.headers else 0)

    def encode(self, reply_to: bytes) -> tuple[bytes, bytes]:
        """Return the command line (with headers), and the payload with its line end."""
        if not self.headers:
            return b"PUB %b %b %d\r\n" % (self.subject.encode(), reply_to, len(self.payload)), self.payload + b"\r\n"
        raw_headers = _encode_headers(self.headers)
        size = len(raw_headers)
        command = b"HPUB %b %b %d %d\r\n" % (self.subject.encode(), reply_to, size, size + len(self.payload))
        return command + raw_headers, self.payload + b"\r\n"


class Reply(NamedTuple):
    """A message that arrived for a request or a pull.

    Attributes:
        payload: The payload.
        raw_headers: The headers, as bytes; `headers` has them by name.
        reply_to: The subject for a reply to it, such as an acknowledgement.
    """

    payload: bytes
    raw_headers: bytes = b""
    reply_to: str = ""

    @property
    def status(self) -> int:
        """The status that a server sends in place of a message, such as 404; 0 for a message."""
        code = self.raw_headers[9:12]
        return int(code) if code.isdigit() else 0

    @property
    def description(self) -> str:
        """The text beside the status."""
        return self.raw_headers.partition(b"\r\n")[0][13:].decode(errors="replace")

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers by name. The last of repeated headers counts."""
        if not self.raw_headers:
            return NO_HEADERS
        pairs = (
            line.split(":", 1) for line in self.raw_headers.decode(errors="replace").split("\r\n")[1:] if ":" in line
        )
        return {name: value.strip() for name, value in pairs}


def stored_message(message: Mapping[str, Any]) -> Reply:
    """Return the message that `STREAM.MSG.GET` gives as JSON."""
    return Reply(a2b_base64(message.get("data", "")), a2b_base64(message.get("hdrs", "")))


def _encode_headers(headers: Mapping[str, str]) -> bytes:
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if text.count("\r") != len(headers) or text.count("\n") != len(headers):
        raise ValueError("a header holds the end of a line")
    return b"%b\r\n%b\r\n" % (VERSION, text.encode())


class Message(NamedTuple):
    """A message as it arrived.

    Attributes:
        subject: The subject.
        subscription_id: The number of the subscription.
        reply_to: The subject for a reply; empty if there is none.
        raw_headers: The headers, as bytes.
        payload: The payload.
    """

    subject: bytes
    number: int
    reply_to: bytes
    raw_headers: bytes
    payload: bytes


class FrameParser:
    """Incremental parser of the server's bytes."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._needed = 0

    def feed(self, data: bytes) -> Iterator[Message | bytes]:
        """Yield the messages and lines (with line end) that are complete by now.

        Raises:
            ValueError: The bytes are not NATS protocol.
        """
        self._pieces.append(data)
        self._size += len(data)
        if self._size < self._needed:  # do not copy the buffer for each piece
            return
        buffer = b"".join(self._pieces) if len(self._pieces) > 1 else data
        at, size = 0, len(buffer)
        while at < size:
            end = buffer.find(LINE_END, at)
            if end < 0:
                if size - at > MAX_LINE_BYTES:
                    raise ValueError("a line without an end")
                self._needed = 0
                break
            if not buffer.startswith((b"MSG ", b"HMSG "), at):
                yield buffer[at : end + 2]
                at = end + 2
                continue
            words = buffer[at:end].split()
            begin, length = end + 2, int(words[-1])
            after = begin + length + 2
            if after > size:
                self._needed = after - at
                break
            head = begin + int(words[-2]) if words[0] == b"HMSG" else begin
            reply_to = words[3] if len(words) == (6 if words[0] == b"HMSG" else 5) else b""
            yield Message(words[1], int(words[2]), reply_to, buffer[begin:head], buffer[head : begin + length])
            at = after
        else:
            self._needed = 0
        self._pieces = [buffer[at:]] if at < size else []
        self._size = size - at
