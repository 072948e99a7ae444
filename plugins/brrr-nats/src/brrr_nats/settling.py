"""Settling: deliveries are acknowledged, given back or extended, each by its own receipt, while that is good."""

import asyncio
from collections.abc import Sequence
from typing import Final

from brrr_core.backend import Delivery
from brrr_nats.failures import FAILURES, Lost, NoResponders
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

    async def held(self, deliveries: Sequence[Delivery]) -> list[Receipt]:
        """The receipts that are good, each once."""
        own = dict.fromkeys(each.receipt for each in deliveries if isinstance(each.receipt, Receipt))
        for receipt in own:
            while receipt.under_way is not None:
                await receipt.under_way.wait()
                await asyncio.sleep(0)
        now = self._loop.time()
        return [receipt for receipt in own if receipt.holds(now)]

    async def settle(self, deliveries: Sequence[Delivery], payload: bytes) -> None:
        """Tell the servers what becomes of deliveries, and have it confirmed.

        Acknowledgements and extensions whose answers were lost are repeated while the receipts are good. A release is
        not: somebody else may have the message by now. If it was lost too, the lease runs out.

        Raises:
            BackendUnavailableError: An answer was lost, or nobody answers; some may be settled.
            BackendClosedError: The backend was closed.
        """
        self._link.check_open()
        receipts, pause = await self.held(deliveries), FIRST_PAUSE
        while receipts:
            sent = self._loop.time()
            batch = await self._link.send([Request(receipt.reply_to, payload) for receipt in receipts])
            self._follow(batch, receipts, payload, sent)
            await batch.wait()
            left = [receipts[place] for place in batch.failures]
            if not left:
                return
            error = next(iter(batch.failures.values()))
            if isinstance(error, NoResponders):
                error = NoResponders("acknowledgements: the consumer is gone, or has no leader")
            receipts = [receipt for receipt in left if receipt.holds(self._loop.time())]
            self._link.check_open()
            if len(receipts) < len(left) or not all(isinstance(each, Lost | NoResponders) for each in batch.failures.values()):
                raise self._link.translated(error) from error
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
