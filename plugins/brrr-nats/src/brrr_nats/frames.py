"""Takes what a server sends apart: messages, and the lines between them.

nats-py's own parser tries six patterns on the head of each line, and waits between messages. Messages are most of what
comes, and this finds them by their lengths.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["Frames", "Message"]

END: Final = b"\r\n"
LONGEST_LINE: Final = 256 * 1024
"""A line that is longer is none: what servers say of themselves is the longest."""


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
