"""What is sent and received: requests, replies, and their bytes on the wire.

nats-py's own parser tries six patterns on the head of each line, and waits between messages. Messages are most of what
comes, and `Frames` finds them by their lengths.
"""

from binascii import a2b_base64
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

__all__ = ["Frames", "Message", "Reply", "Request", "told_message"]

VERSION: Final = b"NATS/1.0"
NO_HEADERS: Final[Mapping[str, str]] = {}


END: Final = b"\r\n"
LONGEST_LINE: Final = 256 * 1024
"""A line that is longer is none: what servers say of themselves is the longest."""


class Request(NamedTuple):
    """A message that asks for a reply.

    Attributes:
        subject: Where it goes; made of tokens that hold no white space.
        payload: Any bytes.
        headers: Names and values. Values are one line of text each.
    """

    subject: str
    payload: bytes = b""
    headers: Mapping[str, str] | None = None

    @property
    def size(self) -> int:
        """Bytes that count towards a server's `max_payload`: headers and payload."""
        return len(self.payload) + (len(_header_lines(self.headers)) if self.headers else 0)

    def encode(self, reply_to: bytes) -> tuple[bytes, bytes]:
        """The protocol's line (with headers), and the payload with its end."""
        if not self.headers:
            return b"PUB %b %b %d\r\n" % (self.subject.encode(), reply_to, len(self.payload)), self.payload + b"\r\n"
        lines = _header_lines(self.headers)
        size = len(lines)
        command = b"HPUB %b %b %d %d\r\n" % (self.subject.encode(), reply_to, size, size + len(self.payload))
        return command + lines, self.payload + b"\r\n"


class Reply(NamedTuple):
    """A message that came.

    Attributes:
        payload: Its bytes.
        lines: Its headers as they came; `headers` has them by name.
        reply_to: Where an answer to it goes, as an acknowledgement does.
    """

    payload: bytes
    lines: bytes = b""
    reply_to: str = ""

    @property
    def status(self) -> int:
        """The status that servers give in place of a message, like 404; 0 for a message."""
        code = self.lines[9:12]
        return int(code) if code.isdigit() else 0

    @property
    def description(self) -> str:
        """What is said with the status."""
        return self.lines.partition(b"\r\n")[0][13:].decode(errors="replace")

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers by name. Of one that is repeated the last counts."""
        if not self.lines:
            return NO_HEADERS
        pairs = (line.split(":", 1) for line in self.lines.decode(errors="replace").split("\r\n")[1:] if ":" in line)
        return {name: value.strip() for name, value in pairs}


def told_message(message: Mapping[str, Any]) -> Reply:
    """A message of a stream as `STREAM.MSG.GET` tells it, in JSON."""
    return Reply(a2b_base64(message.get("data", "")), a2b_base64(message.get("hdrs", "")))


def _header_lines(headers: Mapping[str, str]) -> bytes:
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if text.count("\r") != len(headers) or text.count("\n") != len(headers):
        raise ValueError("a header holds the end of a line")
    return b"%b\r\n%b\r\n" % (VERSION, text.encode())


class Message(NamedTuple):
    """A message as it came.

    Attributes:
        subject: Its subject.
        number: Of the subscription.
        reply_to: Where an answer goes, empty for nowhere.
        lines: Its headers.
        payload: Its bytes.
    """

    subject: bytes
    number: int
    reply_to: bytes
    lines: bytes
    payload: bytes


class Frames:
    """What has come of a connection, and was not whole yet."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._needed = 0

    def feed(self, data: bytes) -> Iterator[Message | bytes]:
        """The messages, and the lines with their ends, that are whole by now. Raises `ValueError` for anything else."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size < self._needed:  # not copied for each piece that comes
            return
        buffer = b"".join(self._pieces) if len(self._pieces) > 1 else data
        at, size = 0, len(buffer)
        while at < size:
            end = buffer.find(END, at)
            if end < 0:
                if size - at > LONGEST_LINE:
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
