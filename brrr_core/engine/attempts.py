"""How the deliveries of a message ended, so that no delivery is taken for an attempt of its handler.

A queue counts deliveries. It does not know whether one ended because the handler raised, because a worker gave the
message back, or because the worker died. The first two are counted in the cache, by root id and call hash; what they
do not explain is a crash or a lost lease. A call that succeeds in its first delivery counts nothing.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from brrr_core.backend.contracts import Delivery
from brrr_core.engine.operations import Operations
from brrr_core.errors import MalformedRecordError
from brrr_core.wire import decode_message

__all__ = ["Attempts", "HeldDelivery"]

FAILED: Final = "brrr_failed"
EXCUSED: Final = "brrr_excused"
ALONE: Final = "brrr_alone"
"""The first parts of the counters' keys. They are ours: workers of other SDKs neither read nor write them."""

SUSPICIOUS: Final = 3
"""A message runs alone after so many deliveries that nothing explains."""


@dataclass(slots=True, eq=False)
class HeldDelivery:
    """A delivery that a worker holds, and how the earlier ones of its message ended.

    Attributes:
        delivery: The delivery.
        renewed: When its lease last began, by the loop's clock.
        failed: How many attempts the handler ended by raising, as the cache has it.
        excused: How many deliveries ended for another reason that is known, as the cache has it.
        alone: How many runs alone began and have not ended in order, as the cache has it.
        marks: How many of these this delivery began.
        task_name: The handler that runs, or that ran last; empty where none did.
        lost: Whether it was reported that the lease ran out.
    """

    delivery: Delivery
    renewed: float
    failed: int = 0
    excused: int = 0
    alone: int = 0
    marks: int = 0
    task_name: str = ""
    lost: bool = False

    @property
    def unexplained(self) -> int:
        """How many earlier deliveries ended with their worker's death or with a lost lease."""
        return max(0, self.delivery.attempt - 1 - self.failed - self.excused)

    @property
    def suspicious(self) -> bool:
        """Whether the message may be what ends its workers."""
        return self.unexplained >= SUSPICIOUS


class Attempts:
    """The counters of all messages of a connection."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def look(self, held: HeldDelivery) -> None:
        """Read how the earlier deliveries ended, if there were any."""
        if held.delivery.attempt > 1:
            await self._count(held, 0, 0, 0)

    async def fail(self, held: HeldDelivery) -> int:
        """Count an attempt that the handler ended by raising. How many there are now.

        A handler that raised is not what killed its workers before.
        """
        await self._count(held, 1, held.unexplained, -held.alone)
        return held.failed

    async def isolate(self, held: HeldDelivery) -> int:
        """Note that the message is about to run alone. How many such runs never ended.

        The note stays if the worker process ends. It may be counted although this raises, so it is not taken for an
        earlier one when it is made again.
        """
        held.marks += 1
        (held.alone,) = await self._operations.count([(_keys(held.delivery)[2], 1)])
        return held.alone - held.marks

    async def excuse(self, held_deliveries: Sequence[HeldDelivery]) -> None:
        """Count deliveries that workers give back for reasons of their own. What ran alone is suspicious no more."""
        amounts: list[tuple[str, int]] = []
        for held in held_deliveries:
            with suppress(MalformedRecordError):  # such a message is given up in its first delivery anyway
                _, excused, alone = _keys(held.delivery)
                amounts.append((excused, 1 + (held.unexplained if held.marks else 0)))
                if held.marks:
                    amounts.append((alone, -held.alone))
        await self._operations.count(amounts)

    async def forget(self, held: HeldDelivery, *, failures: bool = True) -> None:
        """Set the counters to 0 before the message is settled.

        Args:
            held: The delivery.
            failures: Whether the failed attempts are forgotten too. They are not for a message that is put anew: it
                counts its deliveries from 1 again.
        """
        if held.failed or held.excused or held.alone:
            kept = 0 if failures else held.failed
            await self._count(held, kept - held.failed, -held.excused - kept, -held.alone)

    async def _count(self, held: HeldDelivery, failed: int, excused: int, alone: int) -> None:
        amounts = zip(_keys(held.delivery), (failed, excused, alone), strict=True)
        held.failed, held.excused, held.alone = await self._operations.count(list(amounts))


def _keys(delivery: Delivery) -> tuple[str, str, str]:
    message = decode_message(delivery.body)
    of = f"{message.root_id}/{message.call_hash}"
    return f"{FAILED}/{of}", f"{EXCUSED}/{of}", f"{ALONE}/{of}"
