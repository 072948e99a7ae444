"""Requests, the sizes in which they are sent, and replies."""

from binascii import a2b_base64
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

__all__ = [
    "LARGE_PAYLOAD_BYTES",
    "MAX_REQUESTS_IN_FLIGHT",
    "NO_HEADERS",
    "Reply",
    "Request",
    "largest_first",
    "split_batch",
    "stored_message",
]

NO_HEADERS: Final[Mapping[str, str]] = {}

STATUS_HEADER: Final = "Status"
DESCRIPTION_HEADER: Final = "Description"
"""The names under which nats-py gives the status line of a message."""

HEADER_FRAME_BYTES: Final = len("NATS/1.0\r\n\r\n")

MAX_REQUESTS_IN_FLIGHT: Final = 500
"""Most requests in flight at a time. Servers refuse or drop requests beyond thousands."""

MAX_BYTES_IN_FLIGHT: Final = 4 * 1024 * 1024
LARGE_PAYLOAD_BYTES: Final = 64 * 1024
"""Size from which a payload counts as large. Headers are smaller, and every server accepts more."""


class Request(NamedTuple):
    """A message that asks for a reply. The tokens of its subject and the lines of its headers are valid."""

    subject: str
    payload: bytes = b""
    headers: dict[str, str] | None = None

    @property
    def size(self) -> int:
        """Bytes that count towards a server's `max_payload`: headers and payload."""
        lines = [len(name) + len(value) + len(": \r\n") for name, value in (self.headers or {}).items()]
        return len(self.payload) + (sum(lines) + HEADER_FRAME_BYTES if lines else 0)


class Reply(NamedTuple):
    """A message that arrived for a request or a pull. `reply_to` is the subject of its acknowledgement, if any."""

    payload: bytes
    headers: Mapping[str, str] = NO_HEADERS
    reply_to: str = ""

    @property
    def status(self) -> int:
        """The status that a server sends in place of a message, such as 404; 0 for a message."""
        code = self.headers.get(STATUS_HEADER, "")
        return int(code) if code.isdigit() else 0

    @property
    def description(self) -> str:
        """The text beside the status."""
        return self.headers.get(DESCRIPTION_HEADER, "")


def stored_message(message: Mapping[str, Any]) -> Reply:
    """Return the message that `STREAM.MSG.GET` gives as JSON."""
    lines = a2b_base64(message.get("hdrs", "")).decode(errors="replace").split("\r\n")[1:]
    headers = (line.split(":", 1) for line in lines if ":" in line)
    return Reply(a2b_base64(message.get("data", "")), {name: value.strip() for name, value in headers})


def split_batch(messages: Sequence[Request], indices: Sequence[int]) -> list[list[int]]:
    """Split indices into parts that may be in flight together."""
    if len(indices) <= MAX_REQUESTS_IN_FLIGHT and sum([len(each.payload) for each in messages]) <= MAX_BYTES_IN_FLIGHT:
        return [[*indices]]
    parts: list[list[int]] = []
    size = 0
    for index in indices:
        length = len(messages[index].payload)
        if not parts or size + length > MAX_BYTES_IN_FLIGHT or len(parts[-1]) >= MAX_REQUESTS_IN_FLIGHT:
            parts.append([])
            size = 0
        parts[-1].append(index)
        size += length
    return parts


def largest_first(messages: Sequence[Request]) -> Sequence[Request]:
    """Move the largest message to the front, if it is large.

    A server does not announce a smaller `max_payload` to connected clients: it refuses a larger message and closes the
    connection. If that message comes first, nothing of the batch is stored.
    """
    if len(messages) < 2:
        return messages
    largest = max(range(len(messages)), key=lambda index: len(messages[index].payload))
    if len(messages[largest].payload) <= LARGE_PAYLOAD_BYTES:
        return messages
    return [messages[largest], *messages[:largest], *messages[largest + 1 :]]
