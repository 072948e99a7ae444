"""Settling: deliveries are acknowledged, given back or extended, each by its own receipt, while that is good."""

import asyncio
from collections.abc import Sequence
from typing import Final

from brrr_core.backend import Delivery
from brrr_nats.failures import ApiError, Lost, NoResponders
from brrr_nats.link import FIRST_PAUSE, Batch, Link, Request
from brrr_nats.receipts import HELD, Receipt, State

__all__ = ["ACK", "EXTEND", "RELEASE", "Settler"]

ACK: Final = b"+ACK"
EXTEND: Final = b"+WPI"
RELEASE: Final = b"-NAK"


class Settler:
    """Settles deliveries of one backend.

    What is under way when its caller is cancelled goes on, and the receipts learn what became of it: whoever settles
    them again waits for that first.

    Args:
        link: Asks the servers.
        lease: In seconds.
    """

    def __init__(self, link: Link, lease: float) -> None:
        self._link = link
        self._lease = lease
        self._loop = asyncio.get_running_loop()

    async def holds(self, delivery: Delivery) -> Receipt | None:
        """The receipt of a delivery, if it is good."""
        held = await self._good(_receipts_of([delivery]))
        return held[0] if held else None

    async def settle(self, deliveries: Sequence[Delivery], payload: bytes) -> None:
        """Tell the servers what becomes of deliveries, and have it confirmed.

        Acknowledgements and extensions whose answers were lost are repeated while the receipts are good. A release is
        not: somebody else may have the message by now. If it was lost too, the lease runs out.

        Raises:
            BackendUnavailableError: An answer was lost, or nobody answers; some may be settled.
            BackendClosedError: The backend was closed.
        """
        self._link.check_open()
        receipts: list[Receipt] = _receipts_of(deliveries)
        error: Exception | None = None
        pause = FIRST_PAUSE
        while True:
            held = await self._good(receipts)
            if error is not None and len(held) < len(receipts):
                raise self._link.translated(error) from error
            if not held:
                return
            sent = self._loop.time()
            batch = self._link.send([Request(receipt.reply_to, payload) for receipt in held])
            if batch is None:
                await self._link.ready()
                continue
            self._follow(batch, held, payload, sent)
            await batch.wait()
            if not batch.failures:
                return
            self._link.check_open()
            receipts = [held[place] for place in batch.failures]
            error = next(iter(batch.failures.values()))
            if isinstance(error, NoResponders):
                receipts, error = await self._without_consumers(receipts)
            pause = await self._link.pause(pause)

    def give_back(self, delivery: Delivery) -> None:
        """Give a message back that nobody has seen, without waiting. If that is lost, its lease runs out."""
        receipt = delivery.receipt
        if isinstance(receipt, Receipt):
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
                        receipt.until = max(receipt.until, sent + HELD * self._lease)
                    else:
                        receipt.state = State.SETTLED
                elif payload.startswith(RELEASE) and isinstance(failure, Lost):
                    receipt.state = State.SETTLED

        batch.done.add_done_callback(learn)

    async def _without_consumers(self, receipts: list[Receipt]) -> tuple[list[Receipt], Exception]:
        """What is left of receipts that nobody answers for: their leases are gone with a consumer that was deleted."""
        gone: set[str] = set()
        for consumer in {receipt.consumer for receipt in receipts}:
            try:
                await self._link.ask(f"CONSUMER.INFO.{consumer}")
            except ApiError as error:
                if not error.missing:
                    raise self._link.translated(error) from error
                gone.add(consumer)
        for receipt in receipts:
            if receipt.consumer in gone:
                receipt.state = State.SETTLED
        left = [receipt for receipt in receipts if receipt.consumer not in gone]
        return left, NoResponders("acknowledgements: a consumer has no leader")

    async def _good(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        """The receipts that are good, after what is under way for them has ended."""
        for receipt in receipts:
            while receipt.under_way is not None:
                await receipt.under_way.wait()
                await asyncio.sleep(0)
        now = self._loop.time()
        return [receipt for receipt in receipts if receipt.under_way is None and receipt.holds(now)]


def _receipts_of(deliveries: Sequence[Delivery]) -> list[Receipt]:
    """The receipts of deliveries, each once. One of another backend is as stale here as one that was settled."""
    receipts: dict[Receipt, None] = {}
    for delivery in deliveries:
        if isinstance(delivery.receipt, Receipt):
            receipts[delivery.receipt] = None
    return list(receipts)
