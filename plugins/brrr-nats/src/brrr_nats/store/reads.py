"""Reads the messages of a bucket, each key's last.

Which server answers decides whether a read is stale. A stream on one server is read by direct gets, which that server
answers; of a stream on several, any of them (and mirrors) would answer those, late or not, so it is read by
`STREAM.MSG.GET`, which its leader alone answers. That takes a server three times the work (25 µs a key, not 8).

A leader that was cut off from the others leads on, as far as it knows, for 10 to 20 seconds: every 10 it looks whether
it has heard of a majority in the last 10. Each batch of reads therefore asks it for the last message of the stream as
well: who does not know of a message that this process was told of is not believed, for longer than that.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from brrr_core.errors import BackendUnavailableError, BrrrError
from brrr_nats.client.connector import FIRST_PAUSE
from brrr_nats.client.errors import ApiError, Lost, NoResponders, api_error
from brrr_nats.client.protocol import Reply, Request, told_message
from brrr_nats.client.requests import Link
from brrr_nats.store.keys import Bucket
from brrr_nats.store.read_limiter import LARGEST, SAFE, Flights
from brrr_nats.store.revisions import Parts, Stored

__all__ = ["PARTS_HEADER", "PATIENCE", "Records"]

PARTS_HEADER: Final = "Brrr-Parts"
"""On a record whose value is in parts: their content's digest, their number, the value's bytes."""

NO_MESSAGE: Final = 10037
NOTHING: Final = Stored(None, 0)
SEQUENCE: Final = b"\r\nNats-Sequence: "
REMOVED: Final = (b"\r\nKV-Operation:", b"\r\nNats-Marker-Reason:")
"""Headers of a message that says that there is no value: a client's, or a server's own (ADR-8, ADR-48)."""

PATIENCE: Final = 25.0
"""Seconds for which answers are asked for again that are older than what was told before."""

EVERYTHING: Final = ">"


class Records:
    """The last messages of a bucket's subjects.

    Args:
        link: Asks the servers.
        bucket: Names the subjects.
        patience: Seconds for which answers are asked for again that are older than what was told before.
    """

    def __init__(self, link: Link, bucket: Bucket, *, patience: float) -> None:
        self._patience = patience
        self._link = link
        self._bucket = bucket
        self._direct = link.api(f"DIRECT.GET.{bucket.stream}.")
        self._by_leader = link.api(f"STREAM.MSG.GET.{bucket.stream}")
        self._alone = False
        self._flights = Flights()
        self._seen = 0

    def learn(self, config: Mapping[str, Any]) -> None:
        """Note by a stream's configuration how it is to be read."""
        self._alone = config.get("num_replicas", 1) == 1 and bool(config.get("allow_direct"))

    @property
    def seen(self) -> int:
        """The highest sequence number of the stream that is known."""
        return self._seen

    def saw(self, revision: int) -> None:
        """Note that the stream has a message of this sequence number, or had one."""
        self._seen = max(self._seen, revision)

    async def find(self, subjects: Sequence[str], *, each: int = 0) -> list[Stored]:
        """What stands under each subject.

        Args:
            subjects: Which ones.
            each: Bytes that an answer has, where one knows.

        Raises:
            BackendUnavailableError: An answer did not come.
        """
        found: list[Stored] = []
        while len(found) < len(subjects):
            beside = 0 if self._alone else 1  # the last message
            flight = await self._flights.begin(len(subjects) - len(found) + beside, least=1 + beside, each=each)
            wave = subjects[len(found) : len(found) + flight.requests - beside]
            try:
                found += await self._current(wave, repeat=flight.requests <= SAFE)
            except BackendUnavailableError as error:
                cause = error.__cause__
                if flight.requests <= SAFE or not (isinstance(cause, Lost) and cause.sent):
                    raise
                self._flights.forget()
                each = LARGEST  # it may have been more than the connection carries: once more, in small portions
            finally:
                self._flights.end(flight)
        return found

    async def _current(self, subjects: Sequence[str], *, repeat: bool) -> list[Stored]:
        """Ask, again if the answers are older than what was told before."""
        deadline, pause = asyncio.get_running_loop().time() + self._patience, FIRST_PAUSE
        while True:
            seen = self._seen
            answers, last = await self._ask(subjects, repeat=repeat)
            if last < seen and (await self.info())["state"]["last_seq"] < seen:
                if asyncio.get_running_loop().time() < deadline:
                    pause = await self._link.pause(pause)
                    continue
                self._seen = 0  # no deposed leader goes on for so long: the stream was made anew, or was restored
            self.saw(last)
            return answers

    async def _ask(self, subjects: Sequence[str], *, repeat: bool) -> tuple[list[Stored], int]:
        """The answers, and a sequence number that the server knows; the last one, if that message is still there."""
        try:
            replies = await self._link.request_many(self._requests(subjects), repeat=repeat, again=True)
        except BackendUnavailableError as error:
            if not self._alone or not isinstance(error.__cause__, NoResponders):
                raise
            # Direct gets were forbidden meanwhile, as is done before a stream is kept on more servers.
            self.learn((await self.info())["config"])
            replies = await self._link.request_many(self._requests(subjects), repeat=True)
        self._flights.learn(max(len(reply.payload) for reply in replies))
        answers = [self._stored(reply) for reply in replies]
        last = max(answer.revision for answer in answers)
        return answers[: len(subjects)], max(self._seen, last) if self._alone else last

    async def info(self, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What JetStream says of the stream.

        Raises:
            BackendUnavailableError: It does not answer, or there is no such stream.
        """
        try:
            answer: dict[str, Any] = await self._link.ask(f"STREAM.INFO.{self._bucket.stream}", body)
        except ApiError as error:
            raise self._link.translated(error) from error
        return answer

    def _requests(self, subjects: Sequence[str]) -> list[Request]:
        if self._alone:
            return [Request(self._direct + subject) for subject in subjects]
        bodies = [b'{"last_by_subj":"%b"}' % subject.encode() for subject in (*subjects, EVERYTHING)]
        return [Request(self._by_leader, body) for body in bodies]

    def _stored(self, reply: Reply) -> Stored:
        """Read an answer, of either kind."""
        if not reply.lines:
            return self._told(reply.payload)
        at = reply.lines.rfind(SEQUENCE)  # the server's own headers are the last
        if at < 0:
            if reply.status == 404:
                return NOTHING
            raise self._link.translated(ApiError(0, reply.status, reply.description))
        begin = at + len(SEQUENCE)
        return _read(reply.payload, int(reply.lines[begin : reply.lines.index(b"\r", begin)]), reply.lines)

    def _told(self, payload: bytes) -> Stored:
        answer = json.loads(payload)
        message = answer.get("message")
        if message is None:
            error = api_error(payload)
            if error is not None and error.code == NO_MESSAGE:
                return NOTHING
            raise self._unknown(error)
        told = told_message(message)
        return _read(told.payload, message["seq"], told.lines)

    def _unknown(self, error: ApiError | None) -> BrrrError:
        return self._link.translated(error or ApiError(0, 0, "it answers a read with neither a message nor an error"))


def _read(payload: bytes, revision: int, lines: bytes) -> Stored:
    """A message, by its headers."""
    if any(each in lines for each in REMOVED):
        return Stored(None, revision, None, lines)
    name = f"\r\n{PARTS_HEADER}: ".encode()
    at = lines.find(name)
    if at < 0:
        return Stored(payload, revision, None, lines)
    content, count, size = lines[at + len(name) : lines.index(b"\r", at + len(name))].decode().split(" ")
    return Stored(b"", revision, Parts(content, int(count), int(size)), lines)
