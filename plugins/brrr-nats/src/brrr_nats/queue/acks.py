"""Settling: deliveries are acknowledged, given back or extended, each by its own receipt, while that is good."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from brrr_core.backend import Delivery
from brrr_nats.client.connector import FIRST_PAUSE
from brrr_nats.client.errors import ApiError, Lost, NoResponders, is_passing
from brrr_nats.client.protocol import Request
from brrr_nats.client.request_batch import MOST_AT_ONCE, Batch
from brrr_nats.client.requests import Link
from brrr_nats.options import NatsOptions
from brrr_nats.queue.leases import HELD, Receipt, State

__all__ = ["ACK", "EXTEND", "RELEASE", "Settler"]

ACK: Final = b"+ACK"
EXTEND: Final = b"+WPI"
RELEASE: Final = b"-NAK"

FIRST_ANSWER: Final = 1.0
"""Seconds to wait for the first answer to what may be repeated, twice as many each time: a server that was killed does
not answer for what it had not yet noted that it had delivered."""

EACH: Final = 0.01
"""Seconds more for each of them: a server may write each to its disk."""


class Settler:
    """Settles deliveries of one backend.

    What is under way when its caller is cancelled goes on, and the receipts learn what became of it: whoever settles
    them again waits for that first.

    Args:
        link: Asks the servers.
        options: The lease, and how long to try.
    """

    def __init__(self, link: Link, options: NatsOptions) -> None:
        self._link = link
        self._options = options
        self._loop = asyncio.get_running_loop()

    async def holds(self, delivery: Delivery) -> Receipt | None:
        """The receipt of a delivery, if it is good."""
        held = await self._good(_receipts_of([delivery]))
        return held[0] if held else None

    async def settle(self, deliveries: Sequence[Delivery], payload: bytes) -> None:
        """Tell the servers what becomes of deliveries, and have it confirmed.

        Acknowledgements and extensions whose answers were lost are repeated, for `retry_for`, while the receipts are
        good. A release is not: somebody else may have the message by now. If it was lost too, the lease runs out.

        Raises:
            BackendUnavailableError: An answer was lost, or nobody answers; some may be settled.
            BackendError: The servers refuse.
            BackendClosedError: The backend was closed.
        """
        self._link.check_open()
        receipts = _receipts_of(deliveries)
        for at in range(0, len(receipts), MOST_AT_ONCE):
            await self._settle(receipts[at : at + MOST_AT_ONCE], payload)

    async def _settle(self, receipts: list[Receipt], payload: bytes) -> None:
        error: Exception | None = None
        give_up, pause = 0.0, FIRST_PAUSE
        patience: float = self._options.timeout
        if not payload.startswith(RELEASE):
            patience = min(patience, FIRST_ANSWER + len(receipts) * EACH)
        while True:
            held = await self._good(receipts)
            if error is not None and receipts and (len(held) < len(receipts) or self._loop.time() > give_up):
                raise self._link.translated(error) from error
            if not held:
                return
            sent = self._loop.time()
            connection = self._link.line.current
            if connection is None:
                await self._link.ready()
                continue
            batch = Batch(connection, [Request(receipt.reply_to, payload) for receipt in held], patience)
            self._follow(batch, held, payload, sent)
            await batch.wait()
            if not batch.failures:
                return
            self._link.check_open()
            if error is None:
                give_up = sent + self._options.retry_for
            receipts = [held[place] for place in batch.failures]
            error = _worst(batch.failures.values())
            if not _passes(error):
                raise self._link.translated(error) from error
            if isinstance(error, NoResponders) or (isinstance(error, Lost) and isinstance(error.cause, TimeoutError)):
                receipts = await self._still_leased(receipts)
            pause = await self._link.pause(pause)
            patience = min(2 * patience, self._options.timeout)

    def give_back(self, delivery: Delivery) -> None:
        """Give a message back that nobody has seen, without waiting. If that is lost, its lease runs out."""
        receipt = delivery.receipt
        if isinstance(receipt, Receipt) and receipt.holds(self._loop.time()):
            receipt.state = State.SETTLED
            self._link.post(Request(receipt.reply_to, RELEASE))

    def _follow(self, batch: Batch, receipts: list[Receipt], payload: bytes, sent: float) -> None:
        """Have the receipts learn what becomes of them, also if nobody waits for it."""
        for receipt in receipts:
            receipt.under_way = batch

        def learn(_: object) -> None:
            for place, receipt in enumerate(receipts):
                receipt.under_way = None
                failure = batch.failures.get(place)
                if failure is None:
                    if payload == EXTEND:
                        receipt.until = max(receipt.until, sent + HELD * self._options.lease)
                    else:
                        receipt.state = State.SETTLED
                elif payload.startswith(RELEASE) and isinstance(failure, Lost):
                    receipt.state = State.SETTLED

        batch.done.add_done_callback(learn)

    async def _still_leased(self, receipts: list[Receipt]) -> list[Receipt]:
        """What is left of receipts that nobody answers for: without those whose leases the servers do not have.

        They are gone with a consumer that was deleted, and with a server that was killed before it had noted the
        delivery: it does not answer for such a message, and delivers it as if it never had.
        """
        delivered: dict[str, int] = {}
        for consumer in {receipt.consumer for receipt in receipts}:
            try:
                told = await self._link.ask(f"CONSUMER.INFO.{consumer}")
            except ApiError as error:
                if not error.missing:
                    raise self._link.translated(error) from error
            else:
                delivered[consumer] = told["delivered"]["stream_seq"]
        left: list[Receipt] = []
        for receipt in receipts:
            if receipt.sequence <= delivered.get(receipt.consumer, 0):
                left.append(receipt)
            else:
                receipt.state = State.SETTLED
        return left

    async def _good(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        """The receipts that are good, after what is under way for them has ended."""
        for receipt in receipts:
            while receipt.under_way is not None:
                await receipt.under_way.wait()
                await asyncio.sleep(0)
        now = self._loop.time()
        return [receipt for receipt in receipts if receipt.under_way is None and receipt.holds(now)]


def _worst(failures: Iterable[Exception]) -> Exception:
    """The failure that counts: one that trying again does not mend, if there is any."""
    return min(failures, key=_passes)


def _passes(failure: Exception) -> bool:
    return is_passing(failure) or isinstance(failure, Lost)


def _receipts_of(deliveries: Sequence[Delivery]) -> list[Receipt]:
    """The receipts of deliveries, each once. One of another backend is as stale here as one that was settled."""
    receipts: dict[Receipt, None] = {}
    for delivery in deliveries:
        if isinstance(delivery.receipt, Receipt):
            receipts[delivery.receipt] = None
    return list(receipts)
