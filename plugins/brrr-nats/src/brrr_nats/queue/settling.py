"""Settling of deliveries: acknowledge, release or extend each one by its receipt, while the receipt is valid.

A server accepts any acknowledgement for a message, whichever of its deliveries it names: a late one would settle the
delivery of another receiver. So a receipt itself knows until when it is valid, and whether it was used.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from brrr_core.backend import Delivery
from brrr_nats.client.connector import FIRST_PAUSE_SECONDS
from brrr_nats.client.errors import ApiError, NoReplyError, NoRespondersError, is_transient
from brrr_nats.client.messages import MAX_REQUESTS_IN_FLIGHT, Reply, Request
from brrr_nats.client.request_batch import RequestBatch
from brrr_nats.client.requests import RequestClient
from brrr_nats.options import NatsOptions

__all__ = ["ACK", "EXTEND", "RELEASE", "Receipt", "Settler", "parse_delivery"]

ACK: Final = b"+ACK"
EXTEND: Final = b"+WPI"
RELEASE: Final = b"-NAK"

FIRST_TIMEOUT_SECONDS: Final = 1.0
"""Seconds to wait for the first reply to a repeatable settling; doubled each time. A server that was killed does not
reply for a message whose delivery it had not recorded."""

TIMEOUT_PER_MESSAGE_SECONDS: Final = 0.01
"""Additional seconds for each message, as a server may write each to its disk."""

USABLE_LEASE_FRACTION: Final = 0.96
"""Fraction of a lease for which a receipt is valid. The rest is for the travel of the message and its settling."""

ACK_SUBJECT_TOKENS: Final = 9
"""Tokens of an acknowledgement's subject without a domain: `$JS.ACK.STREAM.CONSUMER.TIMES.SEQUENCE.…`."""


@dataclass(slots=True, eq=False)
class Receipt:
    """The receipt of one delivery.

    Attributes:
        reply_to: The subject for settling.
        consumer: The stream and the consumer.
        sequence: The message's number in the stream.
        message_id: A name of the message that also differs from those in a later stream of the same name.
        until: The time until which it is valid, by the loop's clock.
        settled: Whether it was used.
        settling: The batch that settles it at the moment.
    """

    reply_to: str
    consumer: str
    sequence: int
    message_id: str
    until: float
    settled: bool = False
    settling: RequestBatch | None = None

    def is_valid(self, now: float) -> bool:
        """Whether it is unused and its lease lasts."""
        return not self.settled and now < self.until


def parse_delivery(topic: str, reply: Reply, lease_started: float, lease: float) -> tuple[Delivery, bool]:
    """Return the delivery in a message, and whether more messages are ready that were never delivered.

    Its lease in seconds began no earlier than `lease_started`, by the loop's clock.
    """
    words = reply.reply_to.split(".")
    place = 4 if len(words) == ACK_SUBJECT_TOKENS else 6
    times, sequence, stored = words[place], words[place + 1], words[place + 3]
    consumer = f"{words[place - 2]}.{words[place - 1]}"
    until = lease_started + USABLE_LEASE_FRACTION * lease
    receipt = Receipt(reply.reply_to, consumer, int(sequence), f"{stored}.{sequence}", until)
    return Delivery(topic, reply.payload, receipt, int(times)), words[place + 4] != "0"


class Settler:
    """The settling of one backend's deliveries.

    Settling continues when its caller is cancelled, and updates the receipts. A later settling of the same receipts
    waits for it first.
    """

    def __init__(self, client: RequestClient, options: NatsOptions) -> None:
        self._client = client
        self._options = options
        self._loop = asyncio.get_running_loop()

    async def valid_receipt(self, delivery: Delivery) -> Receipt | None:
        """Return the receipt of a delivery, or None if it is stale."""
        valid = await self._valid_receipts(_receipts_of([delivery]))
        return valid[0] if valid else None

    async def settle(self, deliveries: Sequence[Delivery], payload: bytes) -> None:
        """Settle deliveries, and wait for the server's confirmation.

        An acknowledgement or extension whose reply is lost is repeated for `retry_for`, while the receipts are valid. A
        release is not repeated, since another receiver may hold the message by now. If the release itself was lost, the
        lease expires.

        Raises:
            BackendUnavailableError: A reply was lost, or no server replies; some deliveries may be settled.
            BackendError: The servers refuse the operation.
            BackendClosedError: The backend was closed.
        """
        self._client.gate.check()
        receipts = _receipts_of(deliveries)
        for at in range(0, len(receipts), MAX_REQUESTS_IN_FLIGHT):
            await self._settle(receipts[at : at + MAX_REQUESTS_IN_FLIGHT], payload)

    async def _settle(self, receipts: list[Receipt], payload: bytes) -> None:
        error: Exception | None = None
        give_up, pause = 0.0, FIRST_PAUSE_SECONDS
        timeout: float = self._options.timeout
        if not payload.startswith(RELEASE):
            timeout = min(timeout, FIRST_TIMEOUT_SECONDS + len(receipts) * TIMEOUT_PER_MESSAGE_SECONDS)
        while True:
            valid = await self._valid_receipts(receipts)
            if error is not None and receipts and (len(valid) < len(receipts) or self._loop.time() > give_up):
                raise self._client.to_brrr_error(error) from error
            if not valid:
                return
            sent = self._loop.time()
            connection = self._client.connector.current
            if connection is None:
                await self._client.wait_connected()
                continue
            batch = RequestBatch([Request(receipt.reply_to, payload) for receipt in valid], timeout)
            self._track(batch, valid, payload, sent)
            await batch.send(connection)
            await batch.wait()
            if not batch.failures:
                return
            self._client.gate.check()
            if error is None:
                give_up = sent + self._options.retry_for
            receipts = [valid[place] for place in batch.failures]
            error = min(batch.failures.values(), key=_is_retryable)  # a permanent failure, if there is one
            if not _is_retryable(error):
                raise self._client.to_brrr_error(error) from error
            if isinstance(error, NoRespondersError) or isinstance(getattr(error, "cause", None), TimeoutError):
                receipts = await self._still_leased(receipts)
            pause = await self._client.pause(pause)
            timeout = min(2 * timeout, self._options.timeout)

    def release_unseen(self, delivery: Delivery) -> None:
        """Release a message that no caller has seen, without waiting. If the release is lost, the lease expires."""
        receipt = delivery.receipt
        if isinstance(receipt, Receipt) and receipt.is_valid(self._loop.time()):
            receipt.settled = True
            self._client.send_only(Request(receipt.reply_to, RELEASE))

    def _track(self, batch: RequestBatch, receipts: list[Receipt], payload: bytes, sent: float) -> None:
        """Update the receipts when the batch is done, even if no caller waits for it."""
        for receipt in receipts:
            receipt.settling = batch

        def learn(_: object) -> None:
            for place, receipt in enumerate(receipts):
                receipt.settling = None
                failure = batch.failures.get(place)
                if failure is None and payload == EXTEND:
                    receipt.until = max(receipt.until, sent + USABLE_LEASE_FRACTION * self._options.lease)
                elif failure is None or (payload.startswith(RELEASE) and isinstance(failure, NoReplyError)):
                    receipt.settled = True

        batch.done.add_done_callback(learn)

    async def _still_leased(self, receipts: list[Receipt]) -> list[Receipt]:
        """Return the unanswered receipts whose leases the servers still have.

        A lease is lost with a deleted consumer, or with a server that was killed before it recorded the delivery. Such
        a server does not reply for the message, and delivers it as if for the first time.
        """
        delivered: dict[str, int] = {}
        for consumer in {receipt.consumer for receipt in receipts}:
            try:
                info = await self._client.call_api(f"CONSUMER.INFO.{consumer}")
            except ApiError as error:
                if not error.missing:
                    raise self._client.to_brrr_error(error) from error
            else:
                delivered[consumer] = info["delivered"]["stream_seq"]
        for receipt in receipts:
            receipt.settled = receipt.sequence > delivered.get(receipt.consumer, 0)
        return [receipt for receipt in receipts if not receipt.settled]

    async def _valid_receipts(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        """Return the valid receipts, after waiting for settlings that are running."""
        for receipt in receipts:
            while receipt.settling is not None:
                await receipt.settling.wait()
                await asyncio.sleep(0)
        now = self._loop.time()
        return [receipt for receipt in receipts if receipt.settling is None and receipt.is_valid(now)]


def _is_retryable(failure: Exception) -> bool:
    return is_transient(failure) or isinstance(failure, NoReplyError)


def _receipts_of(deliveries: Sequence[Delivery]) -> list[Receipt]:
    """Return the receipts of deliveries, each once. Receipts of other backends count as stale."""
    return [*dict.fromkeys(each.receipt for each in deliveries if isinstance(each.receipt, Receipt))]
