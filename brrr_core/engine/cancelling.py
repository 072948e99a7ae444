"""Cancel calls and whole schedules, for clients and handlers.

A request holds no lease, and its program can end between two steps. So the order is: put a delayed message of the call,
write the request into its state, put a message. Repeating the request is safe and completes it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from brrr_core.backend.contracts import Key, Swap
from brrr_core.engine.control import Control, cancelled_key
from brrr_core.engine.operations import Operations, Put
from brrr_core.engine.roots import SpawnBudget, new_root_id
from brrr_core.wire import Failure, ScheduleMessage, encode_failure, encode_message

__all__ = ["CANCELLED", "Canceller"]

GUARD_DELAY: Final = 5.0
"""Seconds after which the guard message of a request runs the call if the requesting program has ended."""

CANCELLED: Final = encode_failure(Failure("Cancelled", "the call was cancelled"))
"""The outcome of a call that is cancelled without running."""


class Canceller:
    """Requests cancellations through one connection.

    Args:
        operations: The operations of the connection.
        budget: Its counters.
        control: Its control records.
    """

    def __init__(self, operations: Operations, budget: SpawnBudget, control: Control) -> None:
        self._operations = operations
        self._budget = budget
        self._control = control

    async def cancel(self, call_hash: str, topic: str, *, root_id: str | None = None) -> bool:
        """Ask the next run of a call to raise `Cancelled`. A call that was never scheduled fails immediately.

        Args:
            call_hash: The call.
            topic: Its topic.
            root_id: The schedule on whose behalf the messages are put; a new one by default.

        Returns:
            False if the call has an outcome already.

        Raises:
            SpawnLimitError: The schedule is over its spawn limit.
            BackendError: A backend failed. Repeating the request is safe.
        """
        value_key = Key("value", call_hash)
        value, *scheduled = await self._operations.read(
            [value_key, Key("call", call_hash), Key("pending_returns", call_hash)]
        )
        if value is not None:
            return False
        if scheduled == [None, None]:
            # If a program schedules it at this moment, that puts a message, and its worker finds the outcome.
            return (await self._operations.swap([Swap(value_key, None, CANCELLED)]))[0]
        await self._control.mark()
        root_id = await self._charged(root_id, call_hash)
        body = encode_message(ScheduleMessage(root_id, call_hash))
        if self._operations.delays:  # else there is no guard message
            await self._operations.put([Put(topic, body, GUARD_DELAY)])
        await self._control.update(call_hash, lambda state: replace(state, cancel=True))
        await self._operations.put([Put(topic, body)])
        return True

    async def cancel_schedule(self, root_id: str) -> None:
        """Cancel all calls of a schedule that no other schedule needs. Their handlers do not get `Cancelled`."""
        await self._control.mark()
        await self._operations.swap([Swap(cancelled_key(root_id), None, b"")])

    async def resume_schedule(self, root_id: str) -> None:
        """Undo `cancel_schedule`. Messages that were dropped stay lost."""
        await self._operations.swap([Swap(cancelled_key(root_id), b"", None)])

    async def _charged(self, root_id: str | None, call_hash: str) -> str:
        """Count two messages for a schedule. Return its root id."""
        charged: Sequence[bool]
        if root_id is None:
            root_id = new_root_id(call_hash)
            charged = [await self._budget.open(root_id), *await self._budget.charge([root_id])]
        else:
            charged = await self._budget.charge([root_id, root_id])
        if not all(charged):
            raise self._budget.exceeded(root_id)
        return root_id
